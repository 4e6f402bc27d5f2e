"""Decision which imported checkpoints are taken: by their main figures, on the same scenes.

The vae and the latent pipelines on it go together or not at all.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from overpaint.jobs.training.evaluate import main_figure
from overpaint.jobs.training.parallel.staging import LATENT_PIPELINES

ON_VAE = ("vae", *LATENT_PIPELINES)
"""The vae and the checkpoints that know its latents."""
# inpainting does not decide: it stands on what decides.
_DECIDING = ("vae", "text_to_image", "instruction")

Rows = Sequence[Mapping[str, Any]]
"""Rows of `measure_checkpoints`."""


def rejections(
    names: Sequence[str], before: Rows, after: Rows, force: Collection[str]
) -> dict[str, str]:
    """Returns the checkpoints that are not to be taken for their figures, with the reason."""
    problems = {
        name: f"not taken: {main_figure(name)} is lower"
        for name in names
        if name not in force and not _main(after, name) >= _main(before, name, -math.inf)
    }
    if "vae" not in names:
        return problems
    fallen = [n for n in problems if n in _DECIDING or math.isnan(_main(after, n))]
    fallen = [name for name in fallen if name in ON_VAE]
    alone = {name: problems[name] for name in problems if name not in ON_VAE}
    if not fallen:
        return alone
    reason = f"not taken: {' and '.join(fallen)} fell, and what stands on the vae goes together"
    return alone | {name: problems.get(name, reason) for name in names if name in ON_VAE}


def _main(rows: Rows, name: str, default: float = math.nan) -> float:
    """Returns the main figure of a checkpoint."""
    figures = {row["figure"]: row["value"] for row in rows if row["checkpoint"] == name}
    return figures.get(main_figure(name), default)


def comparison(before: Rows, after: Rows, problems: Mapping[str, str]) -> list[dict[str, Any]]:
    """Returns a row for each figure: checkpoint, figure, shipped and new value, and the result.

    Args:
        before: figures of the checkpoints of today.
        after: figures of the new ones.
        problems: checkpoints that are not taken, with the reason.
    """
    known = {(row["checkpoint"], row["figure"]): row["value"] for row in before}
    new = {(row["checkpoint"], row["figure"]): row["value"] for row in after}
    measured = list(dict.fromkeys(name for name, _ in (*known, *new)))
    rows: list[dict[str, Any]] = []
    for name in [*measured, *(name for name in problems if name not in measured)]:
        figures = [figure for own, figure in dict.fromkeys((*known, *new)) if own == name]
        for figure in figures or [main_figure(name)]:
            is_main = figure == main_figure(name)
            rows.append(
                {
                    "checkpoint": name,
                    "figure": figure,
                    "shipped": known.get((name, figure)),
                    "new": new.get((name, figure)),
                    "result": problems.get(name, "taken") if is_main else "",
                }
            )
    return rows
