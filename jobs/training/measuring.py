"""The figures of every papercut checkpoint, beside those that it is to reach."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from diffusers.utils.logging import disable_progress_bar
from overpaint.jobs.training.evaluate import BARS, MEASURES, EvalContext, measure
from overpaint.jobs.training.model_card import write_model_card
from overpaint.operators.models.pretrained import quietly

log = logging.getLogger(__name__)


def measure_checkpoints(
    checkpoints: Path, names: Sequence[str], *, num_scenes: int, sheets: Path | None
) -> list[dict[str, Any]]:
    """Measures checkpoints, and returns a row for each figure.

    Args:
        checkpoints: folder with one folder for each checkpoint.
        names: names of the checkpoints to measure; none for all that are there.
        num_scenes: number of unseen scenes for each.
        sheets: folder for a sample sheet of each, `<name>.png`; None for no sheets.

    Raises:
        ValueError: a checkpoint of such a name is not measured or not there, or there are no
            scenes.
    """
    if num_scenes < 1:
        raise ValueError(f"scenes is {num_scenes}; it must be at least 1")
    for name in names:
        if name not in MEASURES:
            raise ValueError(f"only has {name!r}; known are {', '.join(MEASURES)}")
        if not (checkpoints / name).is_dir():
            raise ValueError(f"{checkpoints} has no checkpoint {name!r}")
    names = names or [name for name in MEASURES if (checkpoints / name).is_dir()]
    if not names:
        raise ValueError(f"{checkpoints} has no checkpoint of {', '.join(MEASURES)}")
    disable_progress_bar()
    with quietly(), TemporaryDirectory() as caches:
        context = EvalContext(checkpoints, Path(caches), num_scenes)
        return [row for name in names for row in _rows(name, context, sheets)]


def write_cards(checkpoints: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes figures into the model cards of the checkpoints that were measured.

    Args:
        checkpoints: folder with one folder for each checkpoint.
        rows: rows that `measure_checkpoints` returned.
    """
    for name in dict.fromkeys(row["checkpoint"] for row in rows):
        figures = [row for row in rows if row["checkpoint"] == name]
        write_model_card(checkpoints / name, figures)


def _rows(name: str, context: EvalContext, sheets: Path | None) -> list[dict[str, Any]]:
    started = time.monotonic()
    figures, sheet = measure(name, context)
    log.info("%s: measured in %.0f s", name, time.monotonic() - started)
    if sheets is not None:
        sheets.mkdir(parents=True, exist_ok=True)
        sheet.save(sheets / f"{name}.png")
    return [
        {
            "checkpoint": name,
            "figure": figure.name,
            "value": figure.value,
            "bar": BARS.get((name, figure.name)),
            "scenes": figure.num_scenes,
        }
        for figure in figures
    ]
