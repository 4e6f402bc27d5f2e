"""The share of a run in which the model is at work, beside what a user would take instead."""

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from overpaint.cluster.ray.session import Session, connected
from overpaint.jobs.bench.busy_model import Work, batches
from overpaint.jobs.bench.busy_system import Job, System
from overpaint.jobs.bench.memory import sampled_memory
from overpaint.jobs.bench.systems import find_systems
from PIL import Image
from skimage import data

HOW = """\
Photographs (cut from those that scikit-image carries, with a camera's noise, JPEG at quality 92) go
through a model that takes its time for a batch of 4, and are written as PNG, on local disks. Each
system runs in turn, those on Ray on a local one of their own that is up before the clock starts;
medians of the turns. busy_share: time of the model over the time from the start of the first batch
to the end of the last, over all actors. images_per_s: from the start of the first batch until the
last image is written. peak_mib: private memory of all processes, Ray's own among them. png = same:
all decode and encode by Pillow and write PNGs as Overpaint does; default: each by its defaults,
with what that takes in written_mib."""

_PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "retina", "hubble_deep_field")
_NOISE = 3.0
_QUALITY = 92
_NUM_CPUS = 4
_KEYS = ("images_per_s", "busy_share", "written_mib")


@dataclass(frozen=True, slots=True)
class Case:
    """Circumstances of a measurement.

    Attributes:
        batch_ms: time of the model for a batch, in milliseconds.
        side_px: side of the pictures.
        actors: models at work at the same time.
        png: `same` or `default`.
        work: how the model spends its time.
    """

    batch_ms: float
    side_px: int
    actors: int
    png: str
    work: Work


def measure_busy(
    cases: Sequence[Case], systems: Sequence[str], images: int, turns: int, *, memory: bool
) -> Iterator[dict[str, Any]]:
    """Measures each system in each case.

    Args:
        cases: circumstances, one after the other.
        systems: names of systems; where it is empty, all that can run here are measured.
        images: pictures for each actor.
        turns: runs of each system, of which the median is taken.
        memory: whether one more run of each is made, in which memory is sampled.

    Yields:
        The fields of the case, `system`, `images_per_s`, `busy_share`, `written_mib` and, where
        memory is sampled, `peak_mib`.

    Raises:
        UsageError: there is no such system, or what it needs is not installed.
    """
    found = find_systems(systems)
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "photographs"
            write_photographs(source, images * case.actors, case.side_px)
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in found}
            for _, (name, system) in product(range(turns), found.items()):
                runs[name].append(_measure(system, case, source))
            for name, system in found.items():
                medians = {key: statistics.median(run[key] for run in runs[name]) for key in _KEYS}
                peak = {"peak_mib": _peak_mib(system, case, source)} if memory else {}
                yield {"batch_ms": case.batch_ms, "system": name, **medians, **peak, **_of(case)}


def _of(case: Case) -> dict[str, Any]:
    return {name: value for name, value in asdict(case).items() if name != "batch_ms"}


def _measure(system: System, case: Case, source: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, ready(system):
        job = _run(system, case, source, Path(folder))
        found = batches(job.log)
        written = [path.stat() for path in job.out.rglob("*.png")]
    start, end = min(batch.start_s for batch in found), max(batch.end_s for batch in found)
    at_work_s = sum(batch.end_s - batch.start_s for batch in found)
    num_images = len(list(source.iterdir()))
    assert len(written) == num_images
    return {
        "images_per_s": num_images / (max(file.st_mtime for file in written) - start),
        "busy_share": at_work_s / (job.actors * (end - start)),
        "written_mib": sum(file.st_size for file in written) / 2**20,
    }


def _peak_mib(system: System, case: Case, source: Path) -> float:
    with tempfile.TemporaryDirectory() as folder, ready(system), sampled_memory() as samples:
        _run(system, case, source, Path(folder))
    return max(samples)


def ready(system: System) -> AbstractContextManager[None]:
    """Returns a context in which a system can run: a local Ray is up where it needs one."""
    return connected(Session(num_cpus=_NUM_CPUS)) if system.on_ray else nullcontext()


def _run(system: System, case: Case, source: Path, folder: Path) -> Job:
    job = Job(
        source=source,
        out=folder / "out",
        log=folder / "batches.log",
        work=case.work,
        batch_ms=case.batch_ms,
        actors=1 if system.one_model else case.actors,
        same_png=case.png == "same",
    )
    system.run(job)
    return job


def write_photographs(folder: Path, number: int, side_px: int) -> None:
    """Writes square JPEG files that cost what photographs cost.

    Args:
        folder: folder that is made.
        number: number of files, all different.
        side_px: their side.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    sources = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in _PHOTOGRAPHS]
    for index in range(number):
        picture = sources[index % len(sources)]
        side = int(min(picture.size) * random.uniform(0.6, 1.0))
        left, top = (int(random.integers(0, length - side + 1)) for length in picture.size)
        cut = picture.resize((side_px, side_px), box=(left, top, left + side, top + side))
        noisy = np.asarray(cut) + random.normal(0, _NOISE, (side_px, side_px, 3))
        pixels = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:05d}.jpg", quality=_QUALITY)
