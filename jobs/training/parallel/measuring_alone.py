"""Measures of one checkpoint in a process of its own, which is quiet while it loads libraries."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from overpaint.operators.models.pretrained import quietly
from overpaint.pipeline.errors import RowError

log = logging.getLogger(__name__)


def measure_alone(checkpoints: Path, name: str, num_scenes: int) -> list[Mapping[str, Any]]:
    """Measures a checkpoint; returns no rows where its outputs are no numbers.

    Args:
        checkpoints: folder with one folder for each checkpoint.
        name: checkpoint to measure.
        num_scenes: number of unseen scenes.
    """
    with quietly():  # diffusers has advice to give when it is imported
        from overpaint.jobs.training.measuring import measure_checkpoints
    try:
        return [*measure_checkpoints(checkpoints, [name], num_scenes=num_scenes, sheets=None)]
    except RowError as error:
        log.warning("%s: %s", name, error)
        return []
