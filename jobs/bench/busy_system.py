"""A system whose model is kept busy, and the work that all of them do.

All of them read JPEG files, call the same stand-in for a model in batches of four, and write PNG
files. Each but Overpaint is used as its own documentation shows.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from overpaint.jobs.bench.busy_model import Work, take_time
from overpaint.pipeline.images import PNG_OPTIONS

BATCH = 4


@dataclass(frozen=True, slots=True)
class Job:
    """Work that every system does.

    Attributes:
        source: folder of JPEG files.
        out: folder for PNG files.
        log: file for the times of the model's calls.
        work: how the model spends its time.
        batch_ms: time of a batch, in milliseconds.
        actors: models that work at the same time.
        same_png: whether all systems write the PNGs that Overpaint writes; else each decodes and
            encodes by its defaults.
    """

    source: Path
    out: Path
    log: Path
    work: Work
    batch_ms: float
    actors: int
    same_png: bool

    @property
    def png_options(self) -> dict[str, Any]:
        """Options of Pillow for the PNG files of the other systems."""
        return dict(PNG_OPTIONS) if self.same_png else {}

    def target(self, source: str) -> Path:
        """Returns the file to which the edit of a source goes."""
        return self.out / f"{Path(source).stem}.png"


class Model:
    """A model as the other systems load and call it.

    Args:
        job: work that is done.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def edit(self, images: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """Takes the time of a batch, and returns its pictures with inverted colours."""
        take_time(self._job.work, self._job.batch_ms, str(self._job.log))
        return [255 - image for image in images]


class System(ABC):
    """A way of running a model over a folder of pictures.

    Attributes:
        on_ray: whether it runs on a Ray that is up before.
        one_model: whether it has one model, whatever the number of actors.
    """

    on_ray: ClassVar[bool] = False
    one_model: ClassVar[bool] = False

    def missing(self) -> str | None:
        """Returns how to install what the system lacks here; None where it can run."""
        return None

    @abstractmethod
    def run(self, job: Job) -> None:
        """Does the work, into `job.out`, which is made."""
