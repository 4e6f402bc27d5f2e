"""Clusters of several nodes: one that comes is used, one that goes loses nothing."""

import json
import subprocess
import sys
import time
from itertools import pairwise

import pytest
from overpaint.cluster.ray.drain import drain_node
from overpaint.jobs.bench.busy_model import Batch, batches
from overpaint.jobs.bench.scaling import steady_busy_share
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset

NUM_ROWS = 96
_NODE = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80 * 2**20}
RECIPE = """
[[stage]]
operator = "overpaint.jobs.bench.busy_model:Busy"
name = "gpu"
batch_ms = {batch_ms}
batch_size = 4
log = "{log}"
[limits]
task_rows = 4
[group.gpu]
num_gpus = 1
actors = [1, 3]
"""

slow = pytest.mark.slow
pytestmark = pytest.mark.ray


def test_steady_share_counts_the_time_in_which_all_have_work():
    found = [Batch(0, 4), Batch(1, 3), Batch(3, 5), Batch(4, 6), Batch(6, 9)]
    # Both work from 1 to 5; the second waits for nobody, and the last batch is alone.
    assert steady_busy_share(found, 2) == pytest.approx(1.0)
    late = [Batch(0, 4), Batch(1, 2), Batch(3, 6)]
    assert steady_busy_share(late, 2) == pytest.approx(5 / 6)


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 2, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=head)
    yield found
    found.shutdown()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "input"
    write_dataset(folder, rows=NUM_ROWS, seed=5)
    return folder


def _command(folder, source, batch_ms):
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(batch_ms=batch_ms, log=folder / "batches.log"))
    return ["run", str(recipe), "--input", str(source), "--output", str(folder / "run")]


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert main([*_command(folder, source, 0), "--no-ray"]) == 0
    return _images(folder)


def _images(folder):
    images = (folder / "run" / "images").rglob("*.png")
    return {path.name: path.read_bytes() for path in images}


def _num_batches(folder):
    log = folder / "batches.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def _run_beside(cluster, source, folder, act, batch_ms=700):
    """Runs on the cluster from another process; something happens to it after four batches."""
    command = [sys.executable, "-m", "overpaint.jobs.cli", *_command(folder, source, batch_ms)]
    command += ["--address", cluster.address, "--insecure-cluster"]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while _num_batches(folder) < 4:
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    act()
    said, _ = driver.communicate(timeout=240)
    assert driver.returncode == 0, said
    success = json.loads((folder / "run" / "_SUCCESS.json").read_text())
    assert success["accepted"] == success["planned"] == NUM_ROWS


@slow
def test_node_that_comes_makes_the_pool_grow(cluster, source, undisturbed, tmp_path):
    cluster.add_node(**_NODE)
    _run_beside(cluster, source, tmp_path, lambda: cluster.add_node(**_NODE), 2500)
    assert _images(tmp_path) == undisturbed
    found = sorted(batches(tmp_path / "batches.log"))
    beside = sum(a.end_s > b.start_s + 0.3 for a, b in pairwise(found))
    assert beside > 2, "two models never worked at the same time"


@slow
def test_node_that_is_lost_loses_nothing(cluster, source, undisturbed, tmp_path):
    nodes = [cluster.add_node(**_NODE) for _ in range(2)]
    lost = lambda: cluster.remove_node(nodes[0], allow_graceful=False)  # noqa: E731
    _run_beside(cluster, source, tmp_path, lost)
    assert _images(tmp_path) == undisturbed
    # What the lost actor had under way is done again: two tasks at the most.
    assert _num_batches(tmp_path) <= NUM_ROWS // 4 + 2


@slow
def test_node_with_notice_repeats_nothing(cluster, source, undisturbed, tmp_path):
    nodes = [cluster.add_node(**_NODE) for _ in range(2)]
    left: list[float] = []

    def leave():
        assert drain_node(cluster.address, nodes[0].node_id, 30)
        left.append(time.time())

    _run_beside(cluster, source, tmp_path, leave)
    assert _images(tmp_path) == undisturbed
    assert _num_batches(tmp_path) == NUM_ROWS // 4
    # Some seconds after the notice, only the other node's model is at work.
    late = sorted(
        batch for batch in batches(tmp_path / "batches.log") if batch.start_s > left[0] + 5
    )
    assert late
    assert all(a.end_s <= b.start_s + 0.05 for a, b in pairwise(late))
