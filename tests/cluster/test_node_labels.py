"""A cluster of several kinds of nodes: every group runs on those that its placement asks for."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from overpaint.jobs.papercut.dataset import write_dataset

SUPPORT = Path(__file__).parents[1] / "support"
_STORE = {"object_store_memory": 80 * 2**20}
RECIPE = """
name = "placed"
[[stage]]
operator = "placed_operators:WhereItRuns"
name = "cpu"
prefix = "cpu_"
[[stage]]
operator = "placed_operators:WhereItRuns"
name = "spot"
prefix = "spot_"
[[stage]]
operator = "placed_operators:WhereItRuns"
name = "large"
prefix = "large_"
[limits]
task_rows = 2
[group.cpu]
num_cpus = 1
[group.spot]
num_gpus = 0.5
market_type = "spot"
[group.large]
num_gpus = 0.5
accelerator_type = "{kind}"
market_type = "spot"
"""

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def cluster(monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SUPPORT), *sys.path[1:2]]))
    found = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **_STORE}
    )
    for labels in ({"spot": "L4"}, {"on-demand": "H100"}):
        ((market, kind),) = labels.items()
        named = {"ray.io/market-type": market, "ray.io/accelerator-type": kind}
        found.add_node(num_cpus=4, num_gpus=1, labels=named, **_STORE)
    found.add_node(num_cpus=2, labels={"ray.io/market-type": "on-demand"}, **_STORE)
    found.wait_for_nodes()
    yield found
    found.shutdown()


def _run(cluster, folder, kind):
    (folder / "recipe.toml").write_text(RECIPE.format(kind=kind))
    command = [sys.executable, "-m", "overpaint.jobs.cli", "run", str(folder / "recipe.toml")]
    command += ["--input", str(folder / "input"), "--output", str(folder / "run")]
    command += ["--address", cluster.address, "--insecure-cluster"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_groups_run_on_the_nodes_that_they_ask_for(cluster, tmp_path):
    write_dataset(tmp_path / "input", rows=8, seed=5)
    refused = _run(cluster, tmp_path, "T4")
    assert refused.returncode == 2, refused.stderr
    assert "GPU on machines with accelerator_type 'T4' (large: 1 x 0.5)" in refused.stderr
    done = _run(cluster, tmp_path, "H100")
    assert done.returncode == 0, done.stderr
    (part,) = (tmp_path / "run" / "manifest").glob("*.parquet")
    rows = pq.read_table(part).select(["cpu_node", "spot_node", "large_node"]).to_pylist()
    assert len(rows) == 8
    assert {row["spot_node"] for row in rows} == {"L4 spot"}
    # None of its kind is a spot machine: the others do.
    assert {row["large_node"] for row in rows} == {"H100 on-demand"}
    assert {row["cpu_node"].split()[0] for row in rows} == {"none"}
