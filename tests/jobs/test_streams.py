"""Commands whose output nobody reads: they end as they would have, in processes of their own."""

import os
import subprocess
import sys

import pytest
from overpaint.jobs.cli import main
from toy_runs import write_sources

RECIPE = '[[stage]]\noperator = "negative"\n[limits]\ntask_rows = 1\n'
COMMAND = [sys.executable, "-m", "overpaint.jobs.cli"]


@pytest.fixture
def place(tmp_path):
    write_sources(tmp_path / "input", 3)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def _run(place, output="run"):
    given = ["run", str(place / "recipe.toml"), "--input", str(place / "input"), "--no-ray"]
    return [*COMMAND, *given, "--output", str(place / output)]


def _with(redirection, command, **options):
    """Runs a command with streams as a shell redirects them."""
    line = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command]
    return subprocess.run(line, capture_output=True, text=True, timeout=100, **options)


def _is_whole(place):
    return (place / "run" / "_SUCCESS.json").is_file() and main(["verify", str(place / "run")]) == 0


@pytest.mark.parametrize(
    "redirection", [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", ">/dev/full 2>/dev/full"]
)
def test_run_that_nobody_hears_ends_with_0(redirection, place):
    ran = _with(redirection, _run(place))
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert _is_whole(place)


def test_run_whose_reader_goes_away_goes_on(place):
    process = subprocess.Popen(_run(place), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert b"3 rows planned" in process.stdout.readline()
    process.stdout.close()
    assert process.wait(100) == 0
    assert process.stderr.read() == b""
    assert _is_whole(place)


@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-", "2>/dev/full"])
def test_wrong_argument_that_nobody_hears_ends_with_2(redirection, place):
    assert _with(redirection, [*COMMAND, "status", str(place)]).returncode == 2


def test_name_that_the_terminal_cannot_show_is_escaped(place):
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    ran = _with("", _run(place, output="café"), env=ascii_only)
    assert ran.returncode == 0, ran.stderr
    assert "caf\\xe9" in ran.stdout


def test_watch_ends_with_its_reader(place):
    assert main(_run(place)[len(COMMAND) :]) == 0
    (place / "run" / "_SUCCESS.json").unlink()  # so that it is not done
    command = [*COMMAND, "status", str(place / "run"), "--watch"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert b"3 planned" in process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 0
