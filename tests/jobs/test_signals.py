"""Signals at real processes, sent when their output or their files say how far they are."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from toy_runs import write_sources

RECIPE = """
[[stage]]
operator = "negative"
batch_size = 1
batch_ms = {batch_ms}
[limits]
task_rows = 1
"""
NUM_ROWS = 8
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
STOPPED = "overpaint: stopped; nothing is lost, the same command goes on from here\n"


@pytest.fixture
def place(tmp_path):
    write_sources(tmp_path / "input", NUM_ROWS)
    (tmp_path / "recipe.toml").write_text(RECIPE.format(batch_ms=300))
    return tmp_path


def _command(place):
    given = ["run", str(place / "recipe.toml"), "--input", str(place / "input")]
    return [*given, "--output", str(place / "run")]


def _start(arguments, ignored=None):
    command = [sys.executable, "-m", "overpaint.jobs.cli", *arguments]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=ignored and (lambda: signal.signal(ignored, signal.SIG_IGN)),
    )


def _wait_until(condition):
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _catches(process, number):
    """Tells whether a process has a handler for a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) & 1 << (number - 1))


def _committed(place, number):
    return len(list((place / "run" / "_work" / "results").rglob("*.parquet"))) >= number


MOMENTS = {
    "while it is imported": lambda process, place: _wait_until(
        lambda: _catches(process, signal.SIGHUP)
    ),
    "when it has planned": lambda process, place: process.stdout.readline(),
    "after a commit": lambda process, place: _wait_until(lambda: _committed(place, 1)),
    "after three commits": lambda process, place: _wait_until(lambda: _committed(place, 3)),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", SIGNALS)
def test_signal_stops_with_3_and_the_same_command_goes_on(number, moment, place):
    command = [*_command(place), "--no-ray"]
    process = _start(command)
    MOMENTS[moment](process, place)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (3, STOPPED)
    (place / "recipe.toml").write_text(RECIPE.format(batch_ms=0))
    assert main(command) == 0
    rows = pq.read_table(place / "run" / "manifest").to_pylist()
    assert [row["status"] for row in rows] == ["accepted"] * NUM_ROWS


def test_hangup_that_is_ignored_stops_nothing(place):
    process = _start([*_command(place), "--no-ray"], ignored=signal.SIGHUP)
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")


STOPPING = """
import sys
from overpaint.jobs.signals import stopping_on_signals

with stopping_on_signals():
    try:
        print("at work", flush=True)
        sys.stdin.readline()
    except KeyboardInterrupt:
        print("stopping", flush=True)
        for line in iter(sys.stdin.readline, "end\\n"):
            print("still stopping", flush=True)
        print("stopped", flush=True)
        sys.exit(3)
"""


@pytest.fixture
def stopping():
    """A process whose clean end takes as long as the test likes."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "at work\n"
    yield process
    process.kill()
    process.communicate()


def _goes_on(process):
    process.stdin.write("more\n")
    process.stdin.flush()
    return process.stdout.readline() == "still stopping\n"


@pytest.mark.parametrize("first", SIGNALS)
def test_later_signals_do_not_cut_the_end_short(first, stopping):
    stopping.send_signal(first)
    assert stopping.stdout.readline() == "stopping\n"
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        stopping.send_signal(number)
        assert _goes_on(stopping)
    out, _ = stopping.communicate("end\n", timeout=30)
    assert (stopping.returncode, out) == (3, "stopped\n")


def test_third_ctrl_c_ends_at_once(stopping):
    stopping.send_signal(signal.SIGINT)
    assert stopping.stdout.readline() == "stopping\n"
    stopping.send_signal(signal.SIGINT)
    assert "third Ctrl-C" in stopping.stderr.readline()
    assert _goes_on(stopping)
    stopping.send_signal(signal.SIGINT)
    assert stopping.wait(30) == 3
    assert stopping.stdout.read() == ""


def _children(process):
    return psutil.Process(process.pid).children(recursive=True)


def _has_ended(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.ray
@pytest.mark.slow
def test_sigterm_while_ray_starts_and_again_while_it_ends(place):
    command = [*_command(place), "--num-cpus", "2"]
    process = _start(command)
    _wait_until(lambda: _children(process))
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (3, STOPPED)

    process = _start(command)
    _wait_until(lambda: _committed(place, 1))
    raylet = next(child for child in _children(process) if child.name() == "raylet")
    process.send_signal(signal.SIGTERM)
    _wait_until(lambda: _has_ended(raylet))
    process.send_signal(signal.SIGTERM)  # by now Ray has taken its handler away
    process.communicate(timeout=60)
    assert process.returncode == 3
    assert main([*_command(place), "--no-ray"]) == 0
