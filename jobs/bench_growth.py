"""How planning and memory grow with the number of rows."""

import os
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from overpaint.cluster.ray_data import run_on_ray
from overpaint.cluster.session import Session, connected
from overpaint.jobs.bench_overhead import Negative, Silent
from overpaint.jobs.opening import Asked, open_run
from overpaint.jobs.run import execute
from overpaint.operators.papercut.dataset import write_dataset
from overpaint.pipeline.inputs import read_input
from overpaint.pipeline.plan import Plan, Stage
from overpaint.pipeline.planning import write_plan
from overpaint.pipeline.run_folder import RunFolder
from overpaint.pipeline.storage import Storage

HOW_PLANNING = """\
A Parquet table of source_uri, instruction and target_prompt is read and planned into a local
folder, keys, seeds and groups included; in this process, whose peak memory is given."""
HOW_MEMORY = """\
A pipeline with a null model (fetch, edit, store, manifest) over as many rows, on a local Ray. The
peak, sampled ten times a second, of the private memory of this process and all its children (USS),
Ray's own among them; the rows are links to a few images."""

_SAMPLE_S = 0.1
_NUM_IMAGES = 256


def measure_planning(rows: int) -> dict[str, Any]:
    """Plans that many rows.

    Returns:
        `rows`, `seconds`, `cpu_seconds`, `peak_mib`.
    """
    with tempfile.TemporaryDirectory() as folder, _peak() as peak:
        table = Path(folder) / "rows.parquet"
        pq.write_table(_table(rows), table)
        start, cpu = time.perf_counter(), time.process_time()
        given = read_input(str(table))
        write_plan(_plan(), given, RunFolder(Storage(f"{folder}/run")))
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return {"rows": rows, "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": peak[0]}


def _table(rows: int) -> pa.Table:
    return pa.table(
        {
            "source_uri": [f"images/{index:09d}.jpg" for index in range(rows)],
            "instruction": [f"make thing {index % 997} blue" for index in range(rows)],
            "target_prompt": [f"a blue thing {index % 997}" for index in range(rows)],
        }
    )


def _plan() -> Plan:
    return Plan(name="growth", stages=(Stage(operator=Negative(batch_ms=0), group="all"),))


def measure_memory(rows: int) -> dict[str, Any]:
    """Runs that many rows with a null model.

    Returns:
        `rows`, `peak_mib`, `seconds`.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "input"
        write_dataset(given, rows=_NUM_IMAGES, seed=0)
        table = _linked(given, rows)
        with connected(Session(num_cpus=4, object_store_bytes=256 * 2**20)), _peak() as peak:
            start = time.perf_counter()
            asked = Asked(str(table))
            run = open_run(_plan(), asked, f"{folder}/run", asked.read)
            execute(run, run_on_ray, Silent())
            seconds = time.perf_counter() - start
    return {"rows": rows, "peak_mib": peak[0], "seconds": seconds}


def _linked(given: Path, rows: int) -> Path:
    """A table of that many rows over a few images; an instruction tells them apart."""
    names = sorted(path.name for path in (given / "images").iterdir())
    table = given / "rows.parquet"
    sources = [f"images/{names[index % len(names)]}" for index in range(rows)]
    instructions = [f"edit {index}" for index in range(rows)]
    pq.write_table(pa.table({"source_uri": sources, "instruction": instructions}), table)
    return table


@contextmanager
def _peak() -> Generator[list[float]]:
    """Yields a list whose one figure grows to the peak private memory of the process tree, MiB."""
    peak, done = [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(_SAMPLE_S):
            peak[0] = max(peak[0], _private_mib())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def _private_mib() -> float:
    me = psutil.Process(os.getpid())
    total = 0
    for process in (me, *me.children(recursive=True)):
        try:
            total += process.memory_full_info().uss
        except psutil.Error:
            continue
    return total / 2**20
