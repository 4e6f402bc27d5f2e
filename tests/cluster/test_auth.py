"""A cluster that asks nobody for a token is joined only by who insists."""

import os
import socket
import subprocess
import sys

import psutil
import pytest
from ray_head import ray_head

pytestmark = pytest.mark.ray

RECIPE = '[[stage]]\noperator = "negative"\nname = "n"\n'


def _own_address():
    """An address of this machine that others could reach."""
    found = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    ]
    if not found:
        pytest.skip("this machine has no address but the loopback")
    return found[0]


@pytest.fixture(scope="module")
def open_head(tmp_path_factory):
    folder = tmp_path_factory.mktemp("open")
    with ray_head(folder, {"RAY_AUTH_MODE": "disabled"}, _own_address()) as head:
        yield head


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    from overpaint.jobs.papercut.dataset import write_dataset

    folder = tmp_path_factory.mktemp("given")
    write_dataset(folder / "input", rows=2, seed=1)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def _overpaint(command, given, output, address, *options):
    arguments = [str(given / "recipe.toml"), "--input", str(given / "input")]
    arguments += ["--output", str(given / output), "--address", address, *options]
    return subprocess.run(
        [sys.executable, "-m", "overpaint.jobs.cli", command, *arguments],
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_open_cluster_is_not_joined(open_head, given):
    refused = _overpaint("run", given, "run", open_head.address)
    assert refused.returncode == 2
    assert "asks for no token" in refused.stderr
    assert not (given / "run" / "images").exists()


def test_open_head_is_sent_no_job(open_head, given):
    refused = _overpaint("submit", given, "submitted", open_head.url)
    assert refused.returncode == 2
    assert "asks for no token" in refused.stderr


def test_open_cluster_is_joined_by_who_insists(open_head, given):
    joined = _overpaint("run", given, "run", open_head.address, "--insecure-cluster")
    assert joined.returncode == 0, joined.stderr
    assert "planned 2 = accepted 2" in joined.stdout
