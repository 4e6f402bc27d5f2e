"""The command `export`: options that do not belong, destinations, stores, kills."""

import json
import shutil
import subprocess
import sys

import pytest
from export_runs import exported, files, row, write_finished
from overpaint.jobs.cli import main
from overpaint.jobs.export import export as exporting
from overpaint.pipeline.storage.store import Storage


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rows = [row(number, candidate) for number in range(4) for candidate in range(2)]
    return write_finished(tmp_path_factory.mktemp("run"), rows)


def test_command_writes_says_what_and_ends_with_0(run, tmp_path, capsys):
    arguments = ["export", run, str(tmp_path / "x"), "--format", "preference", "--like", "dpo"]
    assert main([*arguments, "--best", "--min-margin", "0.5"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"wrote 4 preferences to {tmp_path / 'x'} (train 4)"
    assert said[-1] == f"next: overpaint verify {tmp_path / 'x'}"
    assert main(["verify", str(tmp_path / "x")]) == 0


def test_several_runs_go_into_one_export(run, tmp_path, capsys):
    other = write_finished(tmp_path / "other", [row(9)])
    assert main(["export", run, other, str(tmp_path / "x"), "--format", "ip2p"]) == 0
    assert "wrote 9 pairs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "ip2"], "--format 'ip2': there is none: did you mean 'ip2p'?"),
        (["--format", "preference"], "say whose with --like: dpo, editreward, longcat, verl"),
        (["--format", "preference", "--like", "lonkat"], "did you mean 'longcat'?"),
        (["--format", "ip2p", "--like", "dpo"], "--like dpo: does not belong to --format ip2p"),
        (["--format", "ip2p", "--min-margin", "1"], "does not belong to --format ip2p without"),
        (["--format", "ip2p", "--best", "--all"], "--best and --all exclude each other"),
        (["--format", "rl", "--like", "unirl", "--best"], "which exports requests alone"),
        (["--format", "rl", "--like", "edit-r1"], "its trainer reads train and test"),
        (["--format", "preference", "--like", "dpo", "--reverse"], "--reverse does not belong"),
        (["--format", "ip2p", "--split", "train=0.5"], "the shares are 0.5 together"),
        (["--format", "ip2p", "--fit", "corp"], "--fit 'corp': did you mean 'crop'?"),
        (["--format", "ip2p", "--background", "whit"], "--background 'whit': no colour"),
        (["--format", "ip2p", "--image-format", "pgn"], "did you mean 'png'?"),
        (["--format", "ip2p", "--near-bits", "30"], "it must be 0 to 8"),
        (["--format", "ip2p", "--best", "--rank-by", "lmm"], "has no such score"),
        (
            ["--format", "folders", "--like", "onetrainer", "--image-format", "jpg"],
            "its pictures are png, not jpg",
        ),
    ],
)
def test_options_that_do_not_belong_are_one_sentence(run, tmp_path, capsys, options, words):
    assert main(["export", run, str(tmp_path / "x"), *options]) == 2
    said = capsys.readouterr().err
    assert words in said, said
    assert not (tmp_path / "x").exists()


def test_reverse_needs_a_column(tmp_path, capsys, monkeypatch):
    import export_runs

    schema = export_runs.SCHEMA
    bare = schema.remove(schema.get_field_index("inverse_instruction"))
    monkeypatch.setattr(export_runs, "SCHEMA", bare)
    run = write_finished(tmp_path, [row(0)])
    assert main(["export", run, str(tmp_path / "x"), "--format", "ip2p", "--reverse"]) == 2
    assert "has no column with the inverse instruction" in capsys.readouterr().err


def test_run_must_be_there_and_finished(run, tmp_path, capsys):
    assert main(["export", str(tmp_path / "no"), str(tmp_path / "x"), "--format", "ip2p"]) == 2
    assert "no run there" in capsys.readouterr().err
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "_SUCCESS.json").unlink()
    assert main(["export", str(copy), str(tmp_path / "x"), "--format", "ip2p"]) == 2
    assert "is not finished" in capsys.readouterr().err
    assert main(["export", run, "--format", "ip2p"]) == 2
    assert "at the end the folder to write" in capsys.readouterr().err


def test_destination_must_be_empty(run, tmp_path, capsys):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/mine.txt").write_text("mine")
    assert main(["export", run, str(tmp_path / "x"), "--format", "ip2p"]) == 2
    assert "the folder is not empty" in capsys.readouterr().err
    assert (tmp_path / "x/mine.txt").read_text() == "mine"
    exported(run, tmp_path / "y", "ip2p")
    before = files(tmp_path / "y")
    assert main(["export", run, str(tmp_path / "y"), "--format", "ip2p"]) == 2
    assert "an export is there already" in capsys.readouterr().err
    assert files(tmp_path / "y") == before


def test_nothing_to_export_is_said_and_leaves_nothing(tmp_path, capsys):
    run = write_finished(tmp_path, [row(0, instruction=None)])
    assert main(["export", run, str(tmp_path / "x"), "--format", "ip2p"]) == 2
    assert "nothing to export: left out are no_caption 1" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


KILL = """
import os, sys
from overpaint.jobs.export import export as exporting
from overpaint.jobs.export.request import ExportRequest
rows = exporting.make_examples
def killed(*args):
    for number, example in enumerate(rows(*args)):
        if number == 3:
            os._exit(9)
        yield example
exporting.make_examples = killed
exporting.export([sys.argv[1]], sys.argv[2], ExportRequest(format="folders"))
"""


def test_killed_export_is_no_export_and_is_repeated(run, tmp_path, capsys):
    x = tmp_path / "x"
    command = [sys.executable, "-c", KILL, run, str(x)]
    assert subprocess.run(command, check=False).returncode == 9
    left = files(x)
    assert "_unfinished.json" in left
    assert "export.json" not in left
    (x / "train/targets").mkdir(parents=True, exist_ok=True)
    (x / "train/targets/stray.png").write_bytes(b"stray")
    assert main(["verify", str(x)]) == 2
    assert "no run there" in capsys.readouterr().err
    exported(run, x, "folders")
    exported(run, tmp_path / "y", "folders")
    assert files(x) == files(tmp_path / "y")


@pytest.mark.s3
def test_export_to_a_store_has_the_same_bytes(run, tmp_path, s3):
    for name in ("ip2p", "folders", "webdataset"):
        exported(run, tmp_path / name, name)
        uri = f"{s3}/{name}"
        assert main(["export", run, uri, "--format", name]) == 0
        storage = Storage(uri)
        stored = {path: storage.read(path) for path in storage.list()}
        assert stored == files(tmp_path / name)
        assert main(["verify", uri]) == 0
        assert main(["export", run, uri, "--format", name]) == 2


def test_facts_are_json_and_name_no_folder_of_this_machine(run, tmp_path):
    facts = exported(run, tmp_path / "x", "ip2p")
    written = json.loads((tmp_path / "x/export.json").read_text())
    assert written == facts
    assert str(tmp_path) not in json.dumps(written)
    assert exporting.CARD in files(tmp_path / "x")
