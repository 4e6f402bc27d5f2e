"""The growth of planning, running and resuming with the number of rows."""

import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from overpaint.cluster.ray.session import Session, connected
from overpaint.cluster.ray.stream import run_on_ray
from overpaint.jobs.bench.memory import sampled_memory
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.jobs.runs.execute import SilentDisplay, execute
from overpaint.jobs.runs.open import open_run
from overpaint.operators.negative import Negative
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.inputs import Input, InputRequest, read_input
from overpaint.pipeline.runs.manifest import assemble, manifest_ledger, result_schema
from overpaint.pipeline.runs.planning import write_plan
from overpaint.pipeline.runs.tasks import remaining
from overpaint.pipeline.stage import Stage
from overpaint.pipeline.storage.store import Storage

HOW_PLANNING = """\
A Parquet table of source_uri, instruction and target_prompt is read and planned into a local
folder, keys, seeds and groups included; in this process, whose peak memory is given."""
HOW_GROWTH = """\
A pipeline with a null model (fetch, edit, store, manifest, ledger, report) over as many rows, each
count on a local Ray of its own that is up before the clock starts; the rows are links to a few
images. Memory is the private memory of this process and all its children (USS), Ray's own among
them, sampled twice a second: its peak, and its mean in the second and in the last quarter of the
run. The slope is that of seconds over rows between two counts, both as logarithms: 1 is linear."""
HOW_RESUME = """\
A plan of as many rows whose manifest lacks only its last part, on a local folder: how long it takes
to count the manifest and to derive what remains; in this process, whose peak memory is given."""

_NUM_IMAGES = 256


def measure_planning(rows: int) -> dict[str, Any]:
    """Measures the planning of a table of that many rows.

    Returns:
        `rows`, `seconds`, `cpu_seconds`, `peak_mib`.
    """
    with tempfile.TemporaryDirectory() as folder, sampled_memory() as memory:
        table = Path(folder) / "rows.parquet"
        pq.write_table(_table(rows), table)
        start, cpu = time.perf_counter(), time.process_time()
        rows_input = read_input(str(table))
        write_plan(_plan(), rows_input, RunFolder(Storage(f"{folder}/run")))
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return {"rows": rows, "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": max(memory)}


def _table(rows: int) -> pa.Table:
    return pa.table(
        {
            "source_uri": [f"images/{index:09d}.jpg" for index in range(rows)],
            "instruction": [f"make thing {index % 997} blue" for index in range(rows)],
            "target_prompt": [f"a blue thing {index % 997}" for index in range(rows)],
        }
    )


def _plan() -> Plan:
    return Plan(name="growth", stages=(Stage(operator=Negative(), group="all"),))


def measure_growth(counts: Sequence[int]) -> list[dict[str, Any]]:
    """Measures a run of each number of rows with a null model.

    Returns:
        For each `rows`, `seconds`, `rows_per_s`, `peak_mib`, `second_quarter_mib`,
        `last_quarter_mib`, `slope` (from the count before).
    """
    measured: list[dict[str, Any]] = []
    for rows in counts:
        figures = _run(rows)
        slope = _slope(measured[-1], figures) if measured else None
        measured.append({**figures, "slope": slope})
    return measured


def _slope(fewer: dict[str, Any], more: dict[str, Any]) -> float:
    return math.log(more["seconds"] / fewer["seconds"]) / math.log(more["rows"] / fewer["rows"])


def _run(rows: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        input_folder = Path(folder) / "input"
        write_dataset(input_folder, rows=_NUM_IMAGES, seed=0)
        table = _linked(input_folder, rows)
        with (
            connected(Session(num_cpus=4, object_store_bytes=256 * 2**20)),
            sampled_memory() as memory,
        ):
            start = time.perf_counter()
            request = InputRequest(str(table))
            run = open_run(_plan(), request, RunFolder(Storage(f"{folder}/run")), request.read)
            summary = execute(run, run_on_ray, SilentDisplay())
            seconds = time.perf_counter() - start
    assert summary.ledger.accepted == rows
    quarter = max(1, len(memory) // 4)
    return {
        "rows": rows,
        "seconds": seconds,
        "rows_per_s": rows / seconds,
        "peak_mib": max(memory),
        "second_quarter_mib": statistics.mean(memory[quarter : 2 * quarter] or memory),
        "last_quarter_mib": statistics.mean(memory[-quarter:]),
    }


def measure_resume(rows: int) -> dict[str, Any]:
    """Measures the resuming of a run of that many rows that lacks its last part.

    Returns:
        `rows`, `count_s`, `resume_s`, `peak_mib`.
    """
    with tempfile.TemporaryDirectory() as home:
        plan, folder = _plan(), RunFolder(Storage(f"{home}/run"))
        write_plan(plan, Input(_table(rows), home), folder)
        parts = folder.parts("plan")
        for part in parts[:-1]:
            _finish(plan, folder, part)
        with sampled_memory() as memory:
            start = time.perf_counter()
            manifest_ledger(folder, folder.parts("manifest"))
            counted = time.perf_counter()
            left = remaining(folder, plan.task_rows)
            resumed = time.perf_counter()
    assert left.ledger.planned == rows
    assert left.tasks
    figures = {"rows": rows, "count_s": counted - start, "resume_s": resumed - counted}
    return {**figures, "peak_mib": max(memory)}


def _finish(plan: Plan, folder: RunFolder, part: int) -> None:
    """Writes a part of the manifest as if all of its rows had been accepted."""
    planned = folder.read_part("plan", part)
    schema = result_schema(plan)
    rows = [{"key": key, "status": "accepted"} for key in planned["key"].to_pylist()]
    results = pa.Table.from_pylist(rows, schema)
    folder.write_part("manifest", part, assemble(plan, planned, [results]))


def _linked(input_folder: Path, rows: int) -> Path:
    """Writes a table of that many sources, links to a few images: equal ones share their edit."""
    images = sorted((input_folder / "images").iterdir())
    links = input_folder / "links"
    sources = [f"links/{index // 1000:04d}/{index:07d}.png" for index in range(rows)]
    for index, source in enumerate(sources):
        if index % 1000 == 0:
            (links / f"{index // 1000:04d}").mkdir(parents=True)
        (input_folder / source).hardlink_to(images[index % len(images)])
    table = input_folder / "rows.parquet"
    pq.write_table(pa.table({"source_uri": sources}), table)
    return table
