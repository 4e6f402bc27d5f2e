"""The short form of the fault matrix, and what keeps runners apart and strangers out."""

import os
import signal
import subprocess
import sys
import time

import pytest
from overpaint.jobs.faults.faults import FAULTS, SkippedError
from overpaint.jobs.faults.matrix import measure, open_store, run_baseline
from overpaint.jobs.papercut.dataset import write_dataset

pytestmark = [pytest.mark.ray, pytest.mark.slow]

RECIPE = """
[[stage]]
operator = "negative"
batch_size = 2
batch_ms = 1000
[limits]
task_rows = 2
"""


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    return run_baseline(tmp_path_factory.mktemp("baseline"), rows=48)


@pytest.mark.parametrize(
    ("fault", "store"),
    [
        ("kill_actor", "local"),
        ("stop_driver", "local"),
        ("exit_row", "local"),
        ("disk_full", "local"),
        pytest.param("s3_throttled", "juicefs", marks=pytest.mark.s3),
        pytest.param("kill_driver", "moto", marks=pytest.mark.s3),
    ],
)
def test_fault_loses_nothing_and_doubles_nothing(fault, store, baseline, tmp_path):
    with open_store(store, tmp_path) as trial_store:
        try:
            row = measure(FAULTS[fault], trial_store, 0.5, baseline, tmp_path, fault_s=5)
        except SkippedError as error:
            pytest.skip(str(error))
    assert row["kept"], row


@pytest.mark.parametrize("fault", ["kill_driver", "kill_actor"])
def test_fault_loses_nothing_of_shards_and_leaves_none(fault, baseline, tmp_path):
    packed = baseline._replace(images="shards")
    with open_store("local", tmp_path) as trial_store:
        row = measure(FAULTS[fault], trial_store, 0.5, packed, tmp_path)
    assert row["kept"], row


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    write_dataset(folder / "input", rows=40, seed=5)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def _command(given, output, *options):
    arguments = [str(given / "recipe.toml"), "--input", str(given / "input"), "--output", output]
    return [sys.executable, "-m", "overpaint.jobs.cli", "run", *arguments, *options]


def _wait_for_results(output, run):
    deadline = time.monotonic() + 90
    while not list((output / "_work" / "results").rglob("*.parquet")):
        assert run.poll() is None
        assert time.monotonic() < deadline, "the run committed nothing in 90 s"
        time.sleep(0.02)  # between two looks at the folder


def test_second_runner_is_refused_and_takes_over_when_the_first_dies(given, tmp_path):
    output = tmp_path / "run"
    command = _command(given, str(output), "--no-ray")
    first = subprocess.Popen(command)
    _wait_for_results(output, first)
    # The holder is alive on this machine: its heartbeat is watched until it is seen.
    second = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert second.returncode == 2
    assert first.poll() is None, "the first ended before the second was refused"
    first.send_signal(signal.SIGKILL)
    first.wait()
    third = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert third.returncode == 0, third.stderr
    assert "planned 40 = accepted 40" in third.stdout


@pytest.mark.s3
@pytest.mark.parametrize("secret", ["not the secret", None])
def test_wrong_or_no_credentials_are_refused_in_seconds(given, s3, secret):
    environment = {k: v for k, v in os.environ.items() if k != "AWS_SECRET_ACCESS_KEY"}
    if secret:
        environment["AWS_SECRET_ACCESS_KEY"] = secret
    start = time.monotonic()
    refused = subprocess.run(
        _command(given, f"{s3}/run"), env=environment, capture_output=True, text=True, timeout=100
    )
    assert refused.returncode == 2, refused.stderr
    assert f"{s3}/run" in refused.stderr
    assert "not the secret" not in refused.stderr + refused.stdout
    assert time.monotonic() - start < 30
