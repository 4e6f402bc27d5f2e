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
from overpaint.jobs.bench.cpu import tree_cpu_seconds
from overpaint.jobs.bench.memory import sampled_memory
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.jobs.report.report import write_report
from overpaint.jobs.runs.execute import SilentDisplay, execute
from overpaint.jobs.runs.open import open_run
from overpaint.jobs.runs.status import run_status
from overpaint.operators.negative import Negative
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.inputs import InputRequest, read_input
from overpaint.pipeline.runs.manifest import ACCEPTED, manifest_ledger, manifest_schema
from overpaint.pipeline.runs.planning import write_plan
from overpaint.pipeline.runs.record import RunRecord
from overpaint.pipeline.runs.tasks import remaining
from overpaint.pipeline.stage import Stage
from overpaint.pipeline.storage.store import Storage

HOW_PLANNING = """\
A folder of Parquet parts with source_uri, instruction and target_prompt is read and planned into a
local folder, keys, seeds and groups included; in this process, whose peak memory is given. Shuffled
rows name each source twice, far from each other: they are sorted on disk."""
HOW_GROWTH = """\
A pipeline with a null model (fetch, edit, store, manifest, ledger, report) over as many rows, each
count on a local Ray of its own that is up before the clock starts; the rows are links to a few
images. Memory is the private memory of this process and all its children (USS), Ray's own among
them, sampled twice a second: its peak, and its mean in the second and in the last quarter of the
run. CPU seconds are those of the same processes, which other work on the machine does not change.
The slopes are those of seconds and of CPU seconds over rows between two counts, all as logarithms:
1 is linear."""
HOW_RESUME = """\
A plan of as many rows whose manifest lacks only its last part, on a local folder: how long it takes
to count the manifest, to derive what remains, to tell the status and to write a report; in this
process, whose peak memory is given."""

_NUM_IMAGES = 256
_PART_ROWS = 100_000


def measure_planning(rows: int, *, shuffled: bool = False) -> dict[str, Any]:
    """Measures the planning of a table of that many rows.

    Args:
        rows: rows of the table.
        shuffled: whether each source is named twice, far from each other.

    Returns:
        `rows`, `seconds`, `cpu_seconds`, `peak_mib`.
    """
    with tempfile.TemporaryDirectory() as folder:
        _write_parts(Path(folder) / "input", rows, shuffled=shuffled)
        with sampled_memory() as memory:
            start, cpu = time.perf_counter(), time.process_time()
            rows_input = read_input(f"{folder}/input")
            planned = write_plan(_plan(), rows_input, RunFolder(Storage(f"{folder}/run")))
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    assert planned.num_rows + planned.num_duplicates == rows
    figures = {"rows": rows, "seconds": seconds, "cpu_seconds": cpu_seconds}
    return {**figures, "peak_mib": max(memory)}


def _write_parts(folder: Path, rows: int, *, shuffled: bool = False) -> None:
    """Writes a table of that many rows in parts."""
    folder.mkdir()
    for part, start in enumerate(range(0, rows, _PART_ROWS)):
        table = _table(range(start, min(rows, start + _PART_ROWS)), rows // 2 if shuffled else rows)
        pq.write_table(table, folder / f"part-{part:05d}.parquet")


def _table(rows: range, num_sources: int) -> pa.Table:
    return pa.table(
        {
            "source_uri": [f"images/{index % num_sources:09d}.jpg" for index in rows],
            "instruction": [f"make thing {index} blue" for index in rows],
            "target_prompt": [f"a blue thing {index % 997}" for index in rows],
        }
    )


def _plan() -> Plan:
    return Plan(name="growth", stages=(Stage(operator=Negative(), group="all"),))


def measure_growth(counts: Sequence[int]) -> list[dict[str, Any]]:
    """Measures a run of each number of rows with a null model.

    Returns:
        For each `rows`, `seconds`, `cpu_seconds`, `rows_per_s`, `peak_mib`, `second_quarter_mib`,
        `last_quarter_mib`, `slope` and `cpu_slope` (from the count before).
    """
    measured: list[dict[str, Any]] = []
    for rows in counts:
        figures = _run(rows)
        before = measured[-1] if measured else None
        slope, cpu_slope = (_slope(before, figures, key) for key in ("seconds", "cpu_seconds"))
        measured.append({**figures, "slope": slope, "cpu_slope": cpu_slope})
    return measured


def _slope(fewer: dict[str, Any] | None, more: dict[str, Any], key: str) -> float | None:
    if fewer is None:
        return None
    return math.log(more[key] / fewer[key]) / math.log(more["rows"] / fewer["rows"])


def _run(rows: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        input_folder = Path(folder) / "input"
        write_dataset(input_folder, rows=_NUM_IMAGES, seed=0)
        table = _linked(input_folder, rows)
        with (
            connected(Session(num_cpus=4, object_store_bytes=256 * 2**20)),
            sampled_memory() as memory,
        ):
            start, cpu = time.perf_counter(), tree_cpu_seconds()
            request = InputRequest(str(table))
            run = open_run(_plan(), request, RunFolder(Storage(f"{folder}/run")), request.read)
            summary = execute(run, run_on_ray, SilentDisplay())
            seconds, cpu_seconds = time.perf_counter() - start, tree_cpu_seconds() - cpu
    assert summary.ledger.accepted == rows
    quarter = max(1, len(memory) // 4)
    return {
        "rows": rows,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "rows_per_s": rows / seconds,
        "peak_mib": max(memory),
        "second_quarter_mib": statistics.mean(memory[quarter : 2 * quarter] or memory),
        "last_quarter_mib": statistics.mean(memory[-quarter:]),
    }


def measure_resume(rows: int) -> dict[str, Any]:
    """Measures the resuming of a run of that many rows that lacks its last part.

    Returns:
        `rows`, `count_s`, `resume_s`, `status_s`, `report_s`, `peak_mib`.
    """
    with tempfile.TemporaryDirectory() as home:
        plan, folder = _plan(), RunFolder(Storage(f"{home}/run"))
        _write_parts(Path(home) / "input", rows)
        request = InputRequest(f"{home}/input")
        run_input = request.read()
        RunRecord.planned(plan, request, run_input).write(folder)
        write_plan(plan, run_input, folder)
        parts = folder.parts("plan")
        for part in parts[:-1]:
            _finish(plan, folder, part)
        with sampled_memory() as memory:
            start = time.perf_counter()
            manifest_ledger(folder, folder.parts("manifest"))
            counted = time.perf_counter()
            left = remaining(folder, plan.task_rows)
            resumed = time.perf_counter()
            status = run_status(folder)
            told = time.perf_counter()
            write_report(folder)
            reported = time.perf_counter()
    assert left.ledger.planned == status["planned"] == rows
    assert left.tasks
    figures = {"rows": rows, "count_s": counted - start, "resume_s": resumed - counted}
    figures |= {"status_s": told - resumed, "report_s": reported - told}
    return {**figures, "peak_mib": max(memory)}


def _finish(plan: Plan, folder: RunFolder, part: int) -> None:
    """Writes a part of the manifest as if all of its rows had been accepted."""
    planned = folder.read_part("plan", part)
    schema = manifest_schema(plan, planned.schema)
    constants = {"status": ACCEPTED, "fingerprint": plan.fingerprint()}
    columns: list[Any] = [
        planned[name].cast(schema.field(name).type)
        if (name := field.name) in planned.column_names
        else pa.repeat(pa.scalar(constants.get(name), field.type), planned.num_rows)
        for field in schema
    ]
    folder.write_part("manifest", part, pa.Table.from_arrays(columns, schema=schema))


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
