"""plan: what a run would do and cost, said before anything is started or written."""

import re

import pytest
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "input"
    write_dataset(folder, rows=6, seed=3)
    return folder


def _planned(capsys, drawn, *options):
    assert main(["plan", "demo", "--input", str(drawn), *options]) == 0
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if line.startswith("network evaluations"))
    return said, {kind: int(number) for number, kind in re.findall(r"(\d+) (\w+)", line)}


def test_plan_counts_rows_and_only_the_evaluations_that_occur(capsys, drawn):
    said, costs = _planned(capsys, drawn)
    assert "6 input rows give 6 edits" in said
    assert costs["vae_encode"] == 12
    assert costs["forward"] > 6
    assert "backward" not in said


def test_plan_of_half_the_rows_costs_half(capsys, drawn):
    _, whole = _planned(capsys, drawn)
    _, half = _planned(capsys, drawn, "--limit", "3")
    assert {kind: 2 * number for kind, number in half.items()} == whole


def test_plan_writes_nothing(capsys, drawn):
    before = {path: path.stat().st_mtime_ns for path in drawn.rglob("*")}
    _planned(capsys, drawn)
    assert {path: path.stat().st_mtime_ns for path in drawn.rglob("*")} == before


def test_plan_says_what_becomes_of_the_columns(capsys, drawn):
    said, _ = _planned(capsys, drawn)
    lines = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)
    assert "source_uri" in lines["columns that are read"]
    assert lines["given, but not read by this recipe"] == "edit_type"
    found = lines[f"relative sources are below {drawn}"]
    assert found == "6 of 6 that were looked for lie there"


def test_plan_says_what_is_left_out_of_a_folder(capsys, drawn, tmp_path):
    for name in ("a.png", "b.svg", ".c.png", "d.txt"):
        (tmp_path / name).touch()
    given = ["--input", str(tmp_path), "--set", "row.instruction=x", "--set", "row.mask_phrase=x"]
    assert main(["plan", "instruct-demo", *given]) == 0
    said = capsys.readouterr().out
    assert "1 image; left out: 1 .svg (" in said
    assert "1 hidden, 1 other file (1 .txt)" in said


def test_plan_looks_at_a_table_whose_sources_are_not_here(capsys, tmp_path):
    (tmp_path / "t.csv").write_text("source_uri,instruction\nx.png,make it blue\n")
    assert main(["plan", "instruct-demo", "--input", str(tmp_path / "t.csv")]) == 0
    assert "a run is refused: none of the 1 sources" in capsys.readouterr().out
