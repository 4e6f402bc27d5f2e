"""Systems whose model is kept busy: Overpaint, Ray Data by itself, and a loop.

All of them read JPEG files, call the same stand-in for a model in batches of four, and write PNG
files. Ray Data is used as its documentation shows: `read_images`, `map_batches` with a class, and
`write_images`; where all are to write PNGs of one level, `map` with a function that saves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from overpaint.cluster.ray.stream import run_on_ray
from overpaint.jobs.bench.busy_model import Busy, Work, take_time
from overpaint.jobs.runs.execute import SilentDisplay, execute
from overpaint.jobs.runs.open import open_run
from overpaint.pipeline.images import PNG_OPTIONS
from overpaint.pipeline.placement import Placement
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.inputs import InputRequest
from overpaint.pipeline.stage import Stage
from overpaint.pipeline.storage.store import Storage
from PIL import Image

BATCH = 4
_TASK_ROWS = 16


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
        same_png: whether all systems write PNGs as Overpaint does; else each by its defaults.
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


def overpaint(job: Job) -> None:
    """Runs a plan of one stage, on Ray: a group with one pool of actors."""
    model = Busy(batch_size=BATCH, batch_ms=job.batch_ms, work=job.work, log=str(job.log))
    plan = Plan(
        name="busy",
        stages=(Stage(operator=model, group="all"),),
        groups={"all": Placement(num_cpus=1, actors=(job.actors, job.actors))},
        task_rows=_TASK_ROWS,
    )
    request = InputRequest(str(job.source))
    run = open_run(plan, request, RunFolder(Storage(str(job.out))), request.read)
    execute(run, run_on_ray, SilentDisplay())


class _Model:
    """A model as Ray Data calls it."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __call__(self, batch: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        take_time(self._job.work, self._job.batch_ms, str(self._job.log))
        return {**batch, "image": 255 - batch["image"]}


def ray_data(job: Job) -> None:
    """Runs a stream of Ray Data."""
    import ray
    from ray.data import ActorPoolStrategy

    edited = ray.data.read_images(str(job.source), mode="RGB", include_paths=True).map_batches(
        _Model,
        fn_constructor_args=(job,),
        batch_size=BATCH,
        compute=ActorPoolStrategy(size=job.actors),
        num_cpus=1,
    )
    job.out.mkdir(parents=True, exist_ok=True)
    if not job.same_png:
        edited.write_images(str(job.out), column="image")
        return
    out, options = job.out, job.png_options

    def save(row: dict[str, Any]) -> dict[str, Any]:
        path = out / f"{Path(row['path']).stem}.png"
        Image.fromarray(row["image"]).save(path, **options)
        return {"path": str(path)}

    edited.map(save).materialize()


def loop(job: Job) -> None:
    """Reads, calls the model and writes in turn, in one process."""
    job.out.mkdir(parents=True, exist_ok=True)
    paths = sorted(job.source.iterdir())
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        images = [np.asarray(Image.open(path).convert("RGB")) for path in batch]
        take_time(job.work, job.batch_ms, str(job.log))
        for path, image in zip(batch, images, strict=True):
            edited = Image.fromarray(255 - image)
            edited.save(job.out / f"{path.stem}.png", **job.png_options)


SYSTEMS: dict[str, Callable[[Job], None]] = {
    "overpaint": overpaint,
    "ray_data": ray_data,
    "loop": loop,
}
"""By name; the loop has one model, whatever the number of actors."""
