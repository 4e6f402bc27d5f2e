"""A local Ray: its folder for temporary files, whatever a batch system sets."""

import os
import signal
import subprocess
import sys

import pytest
from overpaint.cluster.ray.local import MAX_FOLDER_BYTES, own_signals, sessions_folder
from toy_runs import write_sources

SOCKET_BYTES = 107
LONGEST = "session_2026-11-26_23-59-59_999999_4194304/sockets/plasma_store"


def _set(monkeypatch, **variables):
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("length", range(1, 150, 7))
@pytest.mark.parametrize("letter", ["x", "é"])
@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_socket_below_the_folder_of_any_length_has_room(name, letter, length, monkeypatch):
    _set(monkeypatch, **{name: f"/{letter * length}"})
    assert len(f"{sessions_folder()}/{LONGEST}".encode()) <= SOCKET_BYTES


def test_folder_that_is_short_enough_is_taken(monkeypatch):
    longest = "/" + "x" * (MAX_FOLDER_BYTES - 1)
    _set(monkeypatch, TMPDIR=longest)
    assert sessions_folder() == f"{longest}/ray"
    _set(monkeypatch, TMPDIR=longest, RAY_TMPDIR="/short")
    assert sessions_folder() == "/short/ray"
    _set(monkeypatch, TMPDIR="", RAY_TMPDIR="")
    assert sessions_folder() == "/tmp/ray"
    _set(monkeypatch, TMPDIR=f"{longest}x")
    assert sessions_folder() == "/tmp/ray"


def test_handler_of_sigterm_and_the_alarm_outlive_a_library_that_takes_them():
    own, alarm = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGALRM)
    timer = signal.getitimer(signal.ITIMER_REAL)
    with own_signals():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        while signal.getsignal(signal.SIGTERM) is not own:
            pass
    assert signal.getsignal(signal.SIGTERM) is own
    assert signal.getsignal(signal.SIGALRM) is alarm
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == (timer[0] > 0)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_run_with_the_temporary_folder_of_a_batch_system(name, tmp_path):
    write_sources(tmp_path / "input", 2)
    (tmp_path / "recipe.toml").write_text('[[stage]]\noperator = "negative"\n')
    long = tmp_path / "a-folder-of-a-batch-system" / "job-1234567" / "local" / "tmp"
    long.mkdir(parents=True)
    given = [str(tmp_path / "recipe.toml"), "--input", str(tmp_path / "input"), "--num-cpus=2"]
    output = ["--output", str(tmp_path / "run")]
    ran = subprocess.run(
        [sys.executable, "-m", "overpaint.jobs.cli", "run", *given, *output],
        env={**os.environ, name: str(long)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (tmp_path / "run" / "_SUCCESS.json").is_file()
