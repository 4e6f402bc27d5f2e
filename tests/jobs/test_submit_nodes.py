"""The demo, submitted to a cluster of three nodes that asks for a token: the bytes of one node."""

import os
import subprocess
import sys
from importlib.resources import files

import pytest
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset
from ray_nodes import token_cluster

TOKEN = "fedcba9876543210fedcba9876543210"
GPU_NODES = 2
NUM_ROWS = 12
ONE_ACTOR = "num_cpus = 1\nactors = [1, 1]"
ACTOR_A_GPU = f"num_cpus = 1\nnum_gpus = 1\nactors = [{GPU_NODES}, {GPU_NODES}]"

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster():
    with token_cluster(GPU_NODES, TOKEN) as found:
        yield found


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """The demo's recipe as it is, and with a model on each fake GPU; tasks of a few rows."""
    folder = tmp_path_factory.mktemp("given")
    write_dataset(folder / "input", rows=NUM_ROWS, seed=7)
    demo = (files("overpaint.jobs") / "recipes" / "demo.toml").read_text()
    demo = demo.replace("batch_size = 8", "batch_size = 2").replace("rows = 16", "rows = 2")
    assert ONE_ACTOR in demo
    (folder / "one.toml").write_text(demo)
    (folder / "nodes.toml").write_text(demo.replace(ONE_ACTOR, ACTOR_A_GPU))
    return folder


def _arguments(given, recipe, output):
    recipe = str(given / f"{recipe}.toml")
    return [recipe, "--input", str(given / "input"), "--output", str(given / output)]


def _outputs(folder):
    found = [path for name in ("images", "masks") for path in (folder / name).rglob("*.png")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def _submit(cluster, *arguments, token=TOKEN):
    command = [sys.executable, "-m", "overpaint.jobs.cli", "submit", *arguments]
    return subprocess.run(
        [*command, "--address", cluster.url],
        env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=280,
    )


def test_demo_on_three_nodes_with_a_token_has_the_bytes_of_one_node(cluster, given):
    submitted = _submit(cluster, *_arguments(given, "nodes", "submitted"))
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    workers = [actor for actor in cluster.actors() if "MapWorker" in actor["class_name"]]
    assert sorted(actor["node_id"] for actor in workers) == sorted(cluster.gpu_node_ids)
    assert main(["run", *_arguments(given, "one", "one"), "--no-ray"]) == 0
    outputs = _outputs(given / "one")
    assert len([name for name in outputs if name.startswith("images")]) == NUM_ROWS
    assert _outputs(given / "submitted") == outputs


def test_nodes_take_no_job_without_their_token(cluster, given):
    refused = _submit(cluster, *_arguments(given, "nodes", "refused"), token="0" * 32)
    assert refused.returncode == 2
    assert "not accepted" in refused.stderr
    assert not (given / "refused").exists()
