"""Submitting to a Ray head with token authentication: the same bytes and exit code as `run`."""

import os
import subprocess
import sys

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
    """Submits from a process of its own: Ray reads the token once a process."""
    command = [sys.executable, "-m", "overpaint.jobs.cli", "submit", *arguments]
    return subprocess.run(
        [*command, "--address", address],
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
