"""The cost of the pipeline beside a bare loop that does the same work with the same functions."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from overpaint.cluster.ray.session import Session, connected
from overpaint.cluster.ray.stream import run_on_ray
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.jobs.runs.execute import SilentDisplay, execute
from overpaint.jobs.runs.open import open_run
from overpaint.operators.negative import Negative
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.inputs import InputRequest, read_input
from overpaint.pipeline.stage import Stage
from overpaint.pipeline.storage.store import Storage

HOW = """\
The model sleeps (a GPU at work uses no CPU) and inverts the colours; batches of 8 rows of 64 px.
Bare loop: one process that reads, decodes, calls the model, encodes PNG and writes. Pipeline: one
actor on a local Ray, images, results, manifest and report included. Both on the same two CPUs.
Seconds a row are a slope between two row counts, both beyond the 600 rows that a report shows, so
that neither start-up nor the report's pictures count; medians of the repeats."""

_BATCH = 8


def measure_overhead(batch_ms: float, rows: tuple[int, int], repeats: int) -> dict[str, Any]:
    """Measures the pipeline and the bare loop at two row counts.

    Args:
        batch_ms: time that the model takes for a batch, in milliseconds.
        rows: the two row counts.
        repeats: number of runs of each.

    Returns:
        `batch_ms`, seconds a row of each, and `ratio`: bare loop over pipeline; 1 is no overhead.
    """
    model = Negative(batch_size=_BATCH, batch_ms=batch_ms)
    with tempfile.TemporaryDirectory() as folder, connected(Session(num_cpus=4)):
        source = Path(folder) / "input"
        write_dataset(source, rows=max(rows), seed=0)
        bare = _slope(lambda count, out: _bare_loop(model, source, count, out), rows, repeats)
        piped = _slope(lambda count, out: _pipeline(model, source, count, out), rows, repeats)
    return {
        "batch_ms": batch_ms,
        "bare_s_per_row": bare,
        "pipeline_s_per_row": piped,
        "ratio": bare / piped,
    }


def _slope(work: Callable[[int, Path], None], rows: tuple[int, int], repeats: int) -> float:
    medians = {count: statistics.median(_times(work, count, repeats)) for count in rows}
    few, many = rows
    return (medians[many] - medians[few]) / (many - few)


def _times(work: Callable[[int, Path], None], count: int, repeats: int) -> list[float]:
    taken: list[float] = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as out:
            start = time.perf_counter()
            work(count, Path(out))
            taken.append(time.perf_counter() - start)
    return taken


def _bare_loop(model: Negative, source: Path, count: int, out: Path) -> None:
    table = read_input(str(source), limit=count).table
    sources: list[Any] = table["source_uri"].to_pylist()
    for start in range(0, count, _BATCH):
        batch = sources[start : start + _BATCH]
        images = [(source / name).read_bytes() for name in batch]
        answers: Any = model.run([{"source_image": i, "image_format": "png"} for i in images], None)
        for name, answer in zip(batch, answers, strict=True):
            (out / Path(name).name).write_bytes(answer["edited_image"])


def _pipeline(model: Negative, source: Path, count: int, out: Path) -> None:
    plan = Plan(name="overhead", stages=(Stage(operator=model, group="all"),), task_rows=64)
    request = InputRequest(str(source), limit=count)
    run = open_run(plan, request, RunFolder(Storage(str(out))), request.read)
    execute(run, run_on_ray, SilentDisplay())
