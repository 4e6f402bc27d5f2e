"""Weak scaling: as many fake GPUs as nodes, each with the same number of pictures to edit."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from overpaint.cluster.ray.session import Session, connected
from overpaint.cluster.ray.stream import run_on_ray
from overpaint.jobs.bench.busy_model import Batch, Busy, batches
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.jobs.runs.execute import SilentDisplay, execute
from overpaint.jobs.runs.open import open_run
from overpaint.pipeline.placement import Placement
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.inputs import InputRequest
from overpaint.pipeline.stage import Stage
from overpaint.pipeline.storage.store import Storage

HOW = """\
Clusters of one head and N nodes, all on this machine, each node with one GPU that is none: its
model sleeps for a batch of 8, and all else is real (fetch, decode, inverted colours, PNG, manifest)
on drawn pictures of 64 px. Each node has the same number of batches. efficiency: images a second
for each node, over that of one node, from the start of the first batch to the end of the last.
busy_share: models at work over the time from when all are at work until the first has nothing left.
A cluster is up before the clock starts; its actors are not. What one machine cannot show: networks
between nodes, and stores that slow down."""

BATCH = 8
_NUM_IMAGES = 64
_STORE_BYTES = 80 * 2**20


def measure_scaling(
    counts: Sequence[int], batch_ms: float, num_batches: int
) -> Iterator[dict[str, Any]]:
    """Measures runs over clusters of several sizes.

    Args:
        counts: numbers of nodes; efficiency is that over the first.
        batch_ms: time of the model for a batch of 8, in milliseconds.
        num_batches: batches of each node.

    Yields:
        `nodes`, `images_per_s`, `efficiency`, `busy_share`, `span_s`.
    """
    first: float | None = None
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "input"
        write_dataset(folder, rows=_NUM_IMAGES, seed=0)
        for nodes in counts:
            found = _measure(folder, nodes, batch_ms, num_batches)
            start, end = min(b.start_s for b in found), max(b.end_s for b in found)
            rate = len(found) * BATCH / (end - start)
            first = first or rate / nodes
            yield {
                "nodes": nodes,
                "images_per_s": rate,
                "efficiency": rate / nodes / first,
                "busy_share": steady_busy_share(found, nodes),
                "span_s": end - start,
            }


def steady_busy_share(found: Sequence[Batch], nodes: int) -> float:
    """Returns the share of the time in which models work, while all have something to do.

    Args:
        found: times of the batches of all models.
        nodes: number of models.
    """
    changes = sorted([(b.start_s, 1) for b in found] + [(b.end_s, -1) for b in found])
    at_work, full = 0, list[float]()
    for moment, change in changes:
        if at_work == nodes and change < 0:
            full.append(moment)
        at_work += change
        if at_work == nodes and change > 0:
            full.append(moment)
    start, end = min(full), max(full)
    work_s = sum(max(0.0, min(b.end_s, end) - max(b.start_s, start)) for b in found)
    return work_s / (nodes * (end - start))


def _measure(source: Path, nodes: int, batch_ms: float, num_batches: int) -> list[Batch]:
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as home:
        table = _table(source, Path(home), nodes * num_batches * BATCH)
        log = Path(home) / "batches.log"
        plan = _plan(nodes, batch_ms, str(log))
        cluster = Cluster(initialize_head=True, head_node_args=_node(num_cpus=2))
        try:
            for _ in range(nodes):
                cluster.add_node(**_node(num_cpus=1, num_gpus=1))
            cluster.wait_for_nodes()
            with connected(Session(address=cluster.address, allow_open=True)):
                request = InputRequest(str(table))
                folder = RunFolder(Storage(f"{home}/run"))
                run = open_run(plan, request, folder, request.read)
                summary = execute(run, run_on_ray, SilentDisplay())
        finally:
            cluster.shutdown()
        assert summary.ledger.accepted == nodes * num_batches * BATCH
        return batches(log)


def _node(**resources: int) -> dict[str, Any]:
    return {**resources, "object_store_memory": _STORE_BYTES, "include_dashboard": False}


def _plan(nodes: int, batch_ms: float, log: str) -> Plan:
    operator = Busy(batch_ms=batch_ms, batch_size=BATCH, log=log)
    placement = Placement(num_gpus=1, num_cpus=1, actors=(nodes, nodes))
    return Plan(
        name="scaling",
        stages=(Stage(operator=operator, group="gpu"),),
        groups={"gpu": placement},
        task_rows=BATCH,
    )


def _table(source: Path, home: Path, rows: int) -> Path:
    """Writes a table of that many sources, links to a few pictures."""
    images = sorted((source / "images").iterdir())
    links = home / "links"
    links.mkdir()
    names = [f"links/{index:06d}.png" for index in range(rows)]
    for index, name in enumerate(names):
        (home / name).hardlink_to(images[index % len(images)])
    table = home / "rows.parquet"
    pq.write_table(pa.table({"source_uri": names}), table)
    return table
