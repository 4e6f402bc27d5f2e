"""Submitting to a Ray head with token authentication: the same bytes and exit code as `run`."""

import os
import re
import subprocess
import sys
import time

import pytest
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset
from ray_head import free_port, ray_head

TOKEN = "0123456789abcdef0123456789abcdef"
RECIPE = '[[stage]]\noperator = "negative"\nname = "n"\n'

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """The address of a head that asks for a token."""
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    with ray_head(tmp_path_factory.mktemp("head"), environment) as found:
        yield found.url


def _submit(arguments, address, token=TOKEN):
    return _overpaint("submit", *arguments, "--address", address, token=token)


def _overpaint(*arguments, token=TOKEN):
    """Runs a command in a process of its own: Ray reads the token once a process."""
    return subprocess.run(
        [sys.executable, "-m", "overpaint.jobs.cli", *arguments],
        env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.fixture
def given(tmp_path):
    write_dataset(tmp_path / "input", rows=8, seed=3)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def _images(output):
    return {path.name: path.read_bytes() for path in (output / "images").rglob("*.png")}


def _arguments(given, output):
    recipe = str(given / "recipe.toml")
    return [recipe, "--input", str(given / "input"), "--output", str(given / output)]


def test_submit_gives_the_bytes_and_the_exit_code_of_run(head, given):
    submitted = _submit(_arguments(given, "submitted"), head)
    assert submitted.returncode == 0, submitted.stderr
    assert "planned 8 = accepted 8" in submitted.stdout
    assert main(["run", *_arguments(given, "run"), "--no-ray"]) == 0
    assert _images(given / "submitted") == _images(given / "run")
    assert len(_images(given / "run")) == 8


def test_submit_returns_the_exit_code_of_a_refused_run(head, given):
    (given / "submitted").mkdir()
    (given / "submitted" / "stranger.txt").write_text("not a run's")
    submitted = _submit(_arguments(given, "submitted"), head)
    assert submitted.returncode == 2
    assert "stranger.txt" in submitted.stdout


def test_submit_with_a_wrong_token_is_refused(head, given):
    submitted = _submit(_arguments(given, "submitted"), head, token="f" * 32)
    assert submitted.returncode == 2
    assert "not accepted" in submitted.stderr


def test_submit_to_nobody_is_refused(given):
    address = f"http://127.0.0.1:{free_port()}"
    submitted = _submit(_arguments(given, "submitted"), address)
    assert submitted.returncode == 2
    assert address in submitted.stderr


SLOW = '[[stage]]\noperator = "negative"\nname = "n"\nbatch_ms = 3000\n[limits]\ntask_rows = 1\n'


def _wait_for_results(output, at_least):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if len(list((output / "_work" / "results").rglob("*.parquet"))) >= at_least:
            return
        time.sleep(0.05)
    raise AssertionError("the job committed nothing")


def _id(submitted):
    return re.search(r"job (overpaint-\w+-\d+)", submitted.stdout)[1]


def test_job_is_one_by_its_recipe_and_output_and_stop_ends_it_as_ctrl_c_would(head, given):
    (given / "recipe.toml").write_text(SLOW)
    arguments = _arguments(given, "slow")
    first = _submit([*arguments, "--no-wait"], head)
    again = _submit([*arguments, "--no-wait"], head)
    assert _id(first) == _id(again)
    assert "is under way already" in again.stdout
    _wait_for_results(given / "slow", 1)
    listed = _overpaint("jobs", "--address", head)
    assert re.search(rf"{_id(first)}\s+running", listed.stdout), listed.stderr
    stopped = _overpaint("stop", str(given / "slow"), "--address", head)
    assert stopped.returncode == 0, stopped.stderr
    # As after a Ctrl-C: the lease is given back, what was done is kept, and nothing is finished.
    assert not (given / "slow" / "_work" / "lease.json").exists()
    assert (given / "slow" / "stats.json").exists()
    assert not (given / "slow" / "_SUCCESS.json").exists()
    assert _overpaint("stop", _id(first), "--address", head).returncode == 2
    on = _submit(arguments, head)
    assert on.returncode == 0, on.stdout
    assert "resuming" in on.stdout
    assert _id(on) != _id(first)


PACKAGE = """
from overpaint.operators.negative import Negative


class Mine(Negative):
    pass
"""


def test_package_of_one_s_own_operators_is_shipped(head, given):
    package = given / "packages" / "overpaint_test_mine"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "mine.py").write_text(PACKAGE)
    recipe = '[[stage]]\noperator = "overpaint_test_mine.mine:Mine"\nname = "n"\n'
    (given / "recipe.toml").write_text(recipe)
    arguments = _arguments(given, "mine")
    submitted = _submit([*arguments, "--package", str(package)], head)
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert len(_images(given / "mine")) == 8


def test_head_of_this_machine_needs_no_token(given, tmp_path_factory):
    environment = {"RAY_AUTH_MODE": "disabled"}
    with ray_head(tmp_path_factory.mktemp("open"), environment) as open_head:
        arguments = [*_arguments(given, "open"), "--insecure-cluster"]
        submitted = _without_token("submit", *arguments, address=open_head.url)
        assert submitted.returncode == 0, submitted.stdout + submitted.stderr
        listed = _without_token("jobs", address=open_head.url)
        assert re.search(r"succeeded .*open", listed.stdout)


def _without_token(*arguments, address):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    environment["RAY_AUTH_MODE"] = "disabled"
    command = [sys.executable, "-m", "overpaint.jobs.cli", *arguments, "--address", address]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
