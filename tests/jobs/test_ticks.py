"""Ticks of a schedule: each edits what is new or changed, and one beside another ends at once."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from overpaint.jobs.cli import main
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.lease import acquire_lease
from overpaint.pipeline.runs.source_versions import SourceVersions
from overpaint.pipeline.storage.store import Storage
from toy_runs import outputs, write_sources

RECIPE = """
[row]
instruction = "paint it"
[[stage]]
operator = "toy_operators:ToyEdit"
name = "edit"
[limits]
task_rows = 4
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def _tick(place, output="run", *, input_uri=None):
    given = ["--input", input_uri or str(place / "input"), "--output", output]
    given[3] = output if "://" in output else str(place / output)
    command = ["run", str(place / "recipe.toml"), *given, "--update", "--if-idle", "--no-ray"]
    return main(command)


def _grow(place, num):
    """Adds sources and leaves those that are there alone."""
    for name in write_sources(place / "more", num):
        if not (place / "input" / name).exists():
            (place / "more" / name).rename(place / "input" / name)


def _written(place):
    images = (place / "run" / "images").rglob("*.png")
    return {path.name: path.stat().st_mtime_ns for path in images}


def _ticks(place):
    return json.loads((place / "run" / "ticks.json").read_text())


def test_three_ticks_over_a_growing_folder_edit_what_is_new_or_changed(place, capsys):
    names = write_sources(place / "input", 4)
    assert _tick(place) == 0
    first = _written(place)
    assert len(first) == 4

    _grow(place, 6)
    assert _tick(place) == 0
    second = _written(place)
    assert len(second) == 6
    assert first.items() <= second.items()

    Path(place / "input" / names[0]).unlink()
    (place / "input" / names[1]).write_bytes((place / "input" / names[2]).read_bytes())
    (place / "input" / names[3]).touch()
    capsys.readouterr()
    assert _tick(place) == 0
    third = _written(place)
    assert len(third) == 5
    # One file was replaced, one was only touched, one is gone.
    assert sum(third[name] != second[name] for name in third) == 1
    told = [{k: tick[k] for k in ("new", "changed", "gone", "accepted")} for tick in _ticks(place)]
    assert told == [
        {"new": 4, "changed": 0, "gone": 0, "accepted": 4},
        {"new": 2, "changed": 0, "gone": 0, "accepted": 6},
        {"new": 0, "changed": 2, "gone": 1, "accepted": 5},
    ]
    assert "tick 3: 0 new, 2 changed, 1 gone" in capsys.readouterr().out
    assert main(["verify", str(place / "run")]) == 0
    assert _tick(place, "fresh") == 0
    assert outputs(str(place / "run")) == outputs(str(place / "fresh"))


def test_sources_are_the_same_again_once_a_tick_has_seen_them(place):
    write_sources(place / "input", 3)
    assert _tick(place) == 0
    (place / "input" / "source-001.png").touch()
    assert [_tick(place), _tick(place)] == [0, 0]
    assert [tick["changed"] for tick in _ticks(place)] == [0, 1, 0]


def test_first_tick_after_a_plain_run_sees_what_was_replaced_since(place):
    names = write_sources(place / "input", 3)
    given = ["--input", str(place / "input"), "--output", str(place / "run"), "--no-ray"]
    for name in names:
        os.utime(place / "input" / name, (1, 1))
    assert main(["run", str(place / "recipe.toml"), *given]) == 0
    before = _written(place)
    replaced = place / "input" / names[1]
    replaced.write_bytes((place / "input" / names[2]).read_bytes())
    later = time.time() + 60
    os.utime(replaced, (later, later))
    assert _tick(place) == 0
    after = _written(place)
    assert sum(after[name] != before[name] for name in before) == 1


def test_failed_rows_are_taken_up_again(place):
    write_sources(place / "input", 3)
    broken = place / "input" / "source-001.png"
    sound = broken.read_bytes()
    broken.write_bytes(b"no image")
    assert [_tick(place), _tick(place)] == [0, 0]
    broken.write_bytes(sound)
    assert _tick(place) == 0
    told = [(tick["changed"], tick["again"], tick["failed"]) for tick in _ticks(place)]
    assert told == [(0, 0, 1), (0, 1, 1), (1, 0, 0)]


def test_tick_beside_a_running_one_ends_at_once(place, capsys):
    write_sources(place / "input", 2)
    (place / "run").mkdir()
    holder = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with acquire_lease(RunFolder(Storage(str(place / "run")))):
            path = place / "run" / "_work" / "lease.json"
            claim = json.loads(path.read_text())
            path.write_text(json.dumps({**claim, "pid": holder.pid}))
            start = time.monotonic()
            assert _tick(place) == 0
            assert time.monotonic() - start < 5
            path.write_text(json.dumps(claim))
    finally:
        holder.communicate(b"\n")
    assert "nothing is done" in capsys.readouterr().out
    assert not (place / "run" / "images").exists()


def test_tick_goes_on_where_a_dead_one_stopped(place):
    write_sources(place / "input", 2)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lease = place / "run" / "_work" / "lease.json"
    lease.parent.mkdir(parents=True)
    claim = {"holder": "x", "host": os.uname().nodename, "pid": ended.pid, "beat": 1}
    lease.write_text(json.dumps({**claim, "renewed_at": time.time()}))
    assert _tick(place) == 0
    assert len(_written(place)) == 2


@pytest.mark.s3
def test_replaced_object_of_a_store_is_seen(place, moto_s3):
    write_sources(place / "input", 3)
    storage = Storage(f"{moto_s3}/input")
    for path in sorted((place / "input").glob("*.png")):
        storage.write(path.name, path.read_bytes())
    assert _tick(place, input_uri=f"{moto_s3}/input") == 0
    before = _written(place)
    storage.write("source-001.png", storage.read("source-002.png"))
    assert _tick(place, input_uri=f"{moto_s3}/input") == 0
    after = _written(place)
    assert sum(after[name] != before[name] for name in before) == 1
    assert [tick["changed"] for tick in _ticks(place)] == [0, 1]


def test_source_in_a_tar_has_the_version_of_the_tar(tmp_path):
    tar = tmp_path / "a.tar"
    tar.write_bytes(b"first")
    versions = SourceVersions(str(tmp_path))
    names = ["a.tar#x.png", "a.tar#y.png", "b.tar#x.png"]
    first, same, absent = versions.of(names)
    assert first == same
    assert absent is None
    tar.write_bytes(b"another")
    assert versions.of(names)[0] != first
