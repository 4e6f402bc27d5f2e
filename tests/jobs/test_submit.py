"""Submitting to a Ray head with token authentication: the same bytes and exit code as `run`."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from overpaint.jobs.cli import main
from overpaint.operators.papercut.dataset import write_dataset

TOKEN = "0123456789abcdef0123456789abcdef"
RECIPE = (
    '[[stage]]\noperator = "overpaint.jobs.bench_overhead:Negative"\nname = "n"\nbatch_ms = 0\n'
)

pytestmark = pytest.mark.ray


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _answers(url):
    request = urllib.request.Request(
        f"{url}/api/version", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """The address of a head that asks for a token."""
    folder = tmp_path_factory.mktemp("head")
    port = _free_port()
    bin_folder = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
    }
    command = ["ray", "start", "--head", "--block", "--num-cpus=4", "--port=0"]
    command += [f"--dashboard-port={port}", "--include-dashboard=true", "--disable-usage-stats"]
    command += ["--object-store-memory=200000000", f"--temp-dir={folder}"]
    command += ["--min-worker-port=0", "--max-worker-port=0"]
    # By default every agent of a machine listens on one port, and the session's local Ray has it:
    # a head whose agent cannot listen takes no job.
    command += [f"--dashboard-agent-listen-port={_free_port()}"]
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(
            [str(bin_folder / command[0]), *command[1:]],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while not _answers(url):
        assert process.poll() is None, (folder / "head.log").read_text()
        assert time.monotonic() < deadline, "the head did not come up in two minutes"
        time.sleep(0.2)
    yield url
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)


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
    address = f"http://127.0.0.1:{_free_port()}"
    submitted = _submit(_arguments(given, "submitted"), address)
    assert submitted.returncode == 2
    assert address in submitted.stderr
