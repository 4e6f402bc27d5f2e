"""A loop in one process."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from overpaint.jobs.bench.busy_system import BATCH, Job, Model, System
from PIL import Image


class Loop(System):
    """Reads, calls the model and writes in turn, in one process."""

    one_model: ClassVar[bool] = True

    def run(self, job: Job) -> None:
        """Edits one batch after the other."""
        edit_all(job, sorted(job.source.iterdir()))


def edit_all(job: Job, paths: Sequence[Path]) -> None:
    """Edits files in turn, with one model.

    Args:
        job: work that is done.
        paths: files of the source.
    """
    job.out.mkdir(parents=True, exist_ok=True)
    model = Model(job)
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        edited = model.edit([np.asarray(Image.open(path).convert("RGB")) for path in batch])
        for path, image in zip(batch, edited, strict=True):
            Image.fromarray(image).save(job.target(path.name), **job.png_options)
