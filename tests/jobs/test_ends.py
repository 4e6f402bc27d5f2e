"""Last words of a command: a fault of Overpaint, a run that failed, a row that cannot be replayed.

Also what systems leave in folders, which is no reason to say anything.
"""

import json
import tempfile
from importlib.util import find_spec

import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from toy_runs import write_sources

RECIPE = '[[stage]]\noperator = "negative"\n'
CLUTTER = (
    *(".DS_Store", ".gitkeep", "._images", "Thumbs.db", "desktop.ini", ".nfs0000000000a1b2c3"),
    *("lost+found/#12", ".Trash-0/files/x.png", "@eaDir/x.png"),
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    write_sources(tmp_path / "input", 4)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "traces").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "traces"))
    return tmp_path


def _run(place, source="input"):
    given = ["run", str(place / "recipe.toml"), "--input", str(place / source)]
    return main([*given, "--output", str(place / "run"), "--no-ray"])


def _rows(place):
    return pq.read_table(place / "run" / "manifest").to_pylist()


def _fail(monkeypatch, error):
    def fail(folder):
        raise error

    monkeypatch.setattr("overpaint.jobs.commands.inspect.run_status", fail)


def test_fault_is_one_sentence_and_its_trace_is_in_a_file(place, monkeypatch, capsys):
    _fail(monkeypatch, ZeroDivisionError("division\nby zero"))
    assert main(["status", str(place)]) == 5
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "a fault of Overpaint: ZeroDivisionError: division by zero" in said
    (file,) = (place / "traces").iterdir()
    assert str(file) in said
    assert "Traceback" in file.read_text()
    assert "in status" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0  # a trace can name what is private


def test_trace_that_no_file_can_take_is_printed(place, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(place / "nowhere"))
    _fail(monkeypatch, ZeroDivisionError("division by zero"))
    assert main(["status", str(place)]) == 5
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "a fault of Overpaint: ZeroDivisionError" in said.splitlines()[-1]


@pytest.mark.parametrize("error", [SystemExit(1), MemoryError(), RecursionError("too deep")])
def test_no_error_ends_a_command_in_another_way(error, place, monkeypatch, capsys):
    _fail(monkeypatch, error)
    assert main(["status", str(place)]) == 5
    assert type(error).__name__ in capsys.readouterr().err


@pytest.mark.parametrize("number", ["EIO", "EMFILE", "ESTALE"])
def test_machine_that_fails_is_no_fault_of_overpaint(number, place, monkeypatch, capsys):
    import errno

    _fail(monkeypatch, OSError(getattr(errno, number), "the disk is tired"))
    assert main(["status", str(place)]) == 3
    assert "the disk is tired" in capsys.readouterr().err


def test_run_whose_every_row_failed_says_so_last(place, capsys):
    (place / "input" / "source-000.png").write_bytes(b"")
    names = ("gone-1.png", "gone-2.png", "source-000.png", "gone-3.png")
    rows = [{"source_uri": name} for name in names]
    table = place / "input" / "rows.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert _run(place) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("every row failed: source_missing 3, image_empty 1;")
    assert main(["redrive", str(place / "run"), "--no-ray"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == last


@pytest.mark.skipif(find_spec("gcsfs") is not None, reason="gcsfs is installed")
def test_row_whose_store_needs_a_missing_package_fails_alone_and_names_it(place):
    rows = [{"source_uri": uri} for uri in ("source-000.png", "gs://bucket/x.png")]
    table = place / "input" / "rows.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert _run(place) == 0
    _, failed = sorted(_rows(place), key=lambda row: row["status"])
    assert failed["error_code"] == "source_unreachable"
    assert "gcsfs" in failed["error_message"]
    assert "bucket" not in failed["error_message"]


@pytest.mark.parametrize("num_broken", range(5))
def test_run_most_of_whose_rows_failed_says_so_last(num_broken, place, capsys):
    for number in range(num_broken):
        (place / "input" / f"source-{number:03d}.png").write_bytes(b"")
    assert _run(place) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    words = {3: "3 of 4 rows failed: image_empty 3;", 4: "every row failed: image_empty 4;"}
    assert last.startswith(words.get(num_broken, "manifest "))


def test_replay_of_a_row_whose_source_is_gone_says_so_last(place, capsys):
    assert _run(place) == 0
    row = _rows(place)[1]
    (place / "input" / row["source_uri"]).unlink()
    capsys.readouterr()
    assert main(["replay", str(place / "run"), row["key"]]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert "different from the run's" in last
    assert "failed in fetch: source_missing" in last


def test_doctor_tells_where_ray_goes_with_a_long_folder(place, monkeypatch, capsys):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", f"/{'x' * 100}")
    assert main(["doctor"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "/tmp/ray, since the path in TMPDIR is too long for sockets" in said


def _litter(folder):
    for name in CLUTTER:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"clutter")


def test_folder_with_clutter_alone_is_empty(place, capsys):
    (place / "run").mkdir()
    _litter(place / "run")
    _litter(place / "drawn")
    assert _run(place) == 0
    assert main(["verify", str(place / "run")]) == 0
    assert all((place / "run" / name).read_bytes() == b"clutter" for name in CLUTTER)
    assert main(["papercut", str(place / "drawn"), "--rows", "1"]) == 0


def test_clutter_among_the_images_is_no_orphan_and_stays(place, capsys):
    assert _run(place) == 0
    for folder in (place / "run" / "images", *(place / "run" / "images").iterdir()):
        _litter(folder)
    assert main(["verify", str(place / "run")]) == 0
    assert main(["verify", str(place / "run"), "--repair"]) == 0
    assert all((place / "run" / "images" / name).is_file() for name in CLUTTER)
    (place / "run" / "images" / "stray.png").write_bytes(b"")
    assert main(["verify", str(place / "run")]) == 1
    assert "stray.png" in capsys.readouterr().out


def test_other_files_still_refuse_an_output(place, capsys):
    (place / "run").mkdir()
    _litter(place / "run")
    (place / "run" / "thesis.docx").write_bytes(b"years of work")
    assert _run(place) == 2
    assert "1 files that are not a run's, such as thesis.docx" in capsys.readouterr().err
