"""What a run goes on from, and what it refuses: interrupted planning, redrive, policy, budget."""

import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from overpaint.jobs.runs.redrive import reopen_failed_rows
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.lease import LeaseTimings, acquire_lease
from overpaint.pipeline.runs.record import existing_run
from overpaint.pipeline.storage.store import Storage
from toy_runs import outputs, write_sources

RECIPE = """
{row}
[[stage]]
operator = "toy_operators:ToyEdit"
name = "edit"
[[stage]]
operator = "toy_operators:ToyScore"
name = "score"
[limits]
task_rows = 2
[budget]
min_rows = 4
"""


@pytest.fixture
def place(tmp_path):
    """A folder with a recipe, and a table of six rows, one of which fails."""
    names = write_sources(tmp_path / "input", 6)
    _write_table(tmp_path, [{"source_uri": name, "instruction": "paint"} for name in names])
    _write_recipe(tmp_path)
    return tmp_path


def _write_table(place, rows):
    (place / "input" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_recipe(place, row=""):
    (place / "recipe.toml").write_text(RECIPE.format(row=row))


def _folder(place):
    return RunFolder(Storage(str(place / "run")))


def _run(place, *options, output="run"):
    given = ["--input", str(place / "input"), "--output", str(place / output), "--no-ray"]
    return main(["run", str(place / "recipe.toml"), *given, *options])


def _rows(place):
    return pq.read_table(place / "run" / "manifest").to_pylist()


def _break_source(place, number):
    """Makes a source garbage; returns its bytes."""
    path = place / "input" / f"source-{number:03d}.png"
    data = path.read_bytes()
    path.write_bytes(b"no image")
    return data


def _mend_source(place, number, data):
    (place / "input" / f"source-{number:03d}.png").write_bytes(data)


def test_wrong_table_is_mended_and_the_same_command_plans(place, capsys):
    rows = [json.loads(line) for line in (place / "input" / "rows.jsonl").open()]
    _write_table(place, [{**row, "seed": -1} for row in rows])
    assert _run(place) == 2
    assert "'seed' holds -1" in capsys.readouterr().err
    _write_table(place, rows)
    assert _run(place) == 0
    assert len(_rows(place)) == 6


def test_planning_that_was_cut_short_leaves_no_row_behind(place):
    assert _run(place) == 0
    folder = _folder(place)
    table = folder.read_part("plan", 0)
    shutil.rmtree(place / "run" / "manifest")
    (place / "run" / "_SUCCESS.json").unlink()
    folder.write_part("plan", 1, table.slice(2, 2))
    assert _run(place) == 0
    assert folder.parts("plan") == [0]
    assert len({row["key"] for row in _rows(place)}) == len(_rows(place)) == 6


def test_value_that_no_manifest_can_hold_is_refused(place, capsys):
    _write_recipe(place, row="[row]\nshot_on = 2024-05-01")
    assert _run(place) == 2
    assert "row.shot_on" in capsys.readouterr().err


def test_run_with_fewer_rows_than_were_planned_is_a_fault(place, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    data = _break_source(place, 2)
    assert _run(place) == 0
    folder = _folder(place)
    reopen_failed_rows(existing_run(folder))
    planned = folder.read_json("_work/planned.json")
    folder.write_json("_work/planned.json", {**planned, "planned": 7})
    _mend_source(place, 2, data)
    assert _run(place) == 5
    assert "7 planned" in capsys.readouterr().err
    assert not (place / "run" / "_SUCCESS.json").exists()


def test_finished_run_is_left_alone_while_another_runner_gives_it_a_new_form(place, capsys):
    assert _run(place) == 0
    folder = _folder(place)
    with acquire_lease(folder, LeaseTimings(heartbeat_s=0.05)):
        folder.storage.write("_work/update/plan/part-00000.parquet", b"under way")
        assert _run(place) == 2
        assert "another runner" in capsys.readouterr().err
        assert folder.storage.exists("_work/update/plan/part-00000.parquet")


def test_redrive_that_was_stopped_goes_on_by_the_same_command(place):
    data = [_break_source(place, number) for number in (1, 4)]
    assert _run(place) == 0
    assert [row["status"] for row in _rows(place)].count("failed") == 2
    assert reopen_failed_rows(existing_run(_folder(place))) == 2  # and then it is killed
    for number, mended in zip((1, 4), data, strict=True):
        _mend_source(place, number, mended)
    assert main(["redrive", str(place / "run"), "--no-ray"]) == 0
    assert _run(place, output="fresh") == 0
    assert outputs(str(place / "run")) == outputs(str(place / "fresh"))


def test_redrive_with_other_versions_is_refused_and_changes_nothing(place, capsys):
    _break_source(place, 1)
    assert _run(place) == 0
    folder = _folder(place)
    recipe = folder.read_json("recipe.json")
    folder.write_json("recipe.json", {**recipe, "versions": {**recipe["versions"], "torch": "1"}})
    assert main(["redrive", str(place / "run"), "--no-ray"]) == 2
    assert "torch 1 then" in capsys.readouterr().err
    assert (place / "run" / "_SUCCESS.json").is_file()


def test_accepted_policy_also_holds_for_rows_that_are_made_again(place):
    assert _run(place) == 0
    (place / "policy.toml").write_text("brightness = { min = 2 }\n")
    assert main(["accept", str(place / "run"), "--policy", str(place / "policy.toml")]) == 0
    assert {row["status"] for row in _rows(place)} == {"rejected"}
    next(Path(place / "run" / "images").rglob("*.png")).write_bytes(b"damaged")
    main(["verify", str(place / "run"), "--repair"])
    assert _run(place) == 0
    assert {row["status"] for row in _rows(place)} == {"rejected"}


def test_policy_over_a_column_of_the_input_is_refused(place, capsys):
    rows = [json.loads(line) for line in (place / "input" / "rows.jsonl").open()]
    _write_table(place, [{**row, "aesthetic": 6.5} for row in rows])
    assert _run(place) == 0
    (place / "policy.toml").write_text("in_aesthetic = { min = 5 }\n")
    assert main(["accept", str(place / "run"), "--policy", str(place / "policy.toml")]) == 2
    assert "in_aesthetic" in capsys.readouterr().err


def test_run_that_exceeded_its_budget_goes_on_once_the_cause_is_mended(place):
    data = [_break_source(place, number) for number in range(4)]
    assert _run(place) == 4
    for number, mended in enumerate(data):
        _mend_source(place, number, mended)
    assert _run(place) == 0
    ended = [row["status"] for row in _rows(place)]
    assert (ended.count("failed"), ended.count("accepted")) == (4, 2)
    assert main(["redrive", str(place / "run"), "--no-ray"]) == 0
    assert {row["status"] for row in _rows(place)} == {"accepted"}


def test_run_that_is_not_finished_is_no_input(place, capsys):
    for number in range(4):
        _break_source(place, number)
    assert _run(place) == 4
    given = ["--input", str(place / "run"), "--output", str(place / "next"), "--no-ray"]
    assert main(["run", str(place / "recipe.toml"), *given]) == 2
    assert "not finished" in capsys.readouterr().err


def test_output_in_the_folder_of_images_is_refused(place, capsys):
    (place / "input" / "rows.jsonl").unlink()
    _write_recipe(place, row='[row]\ninstruction = "paint"')
    assert _run(place, output="input/edited") == 2
    assert "is in the input" in capsys.readouterr().err
    assert not (place / "input" / "edited").exists()


def test_edit_stays_when_its_source_is_out_of_reach_for_a_new_judge(place):
    judge = '[[stage]]\noperator = "toy_operators:ToyCompare"\nname = "compare"\n'
    assert _run(place) == 0
    images = {path.name for path in (place / "run" / "images").rglob("*.png")}
    recipe = place / "recipe.toml"
    text = recipe.read_text()
    recipe.write_text(text.replace("[limits]", f"{judge}[limits]"))
    data = _break_source(place, 3)
    assert _run(place, "--update") == 0
    assert [row["status"] for row in _rows(place)].count("failed") == 1
    assert {path.name for path in (place / "run" / "images").rglob("*.png")} == images
    assert main(["verify", str(place / "run")]) == 0
    _mend_source(place, 3, data)
    assert main(["redrive", str(place / "run"), "--no-ray"]) == 0
    assert {row["status"] for row in _rows(place)} == {"accepted"}


def test_report_that_cannot_be_written_holds_no_run_back(place, monkeypatch, capsys):
    def fail(folder, *summary):
        raise ZeroDivisionError(folder)

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(place))
        patch.setattr("overpaint.jobs.runs.execute.write_report", fail)
        assert _run(place, output="run[a]") == 5
    assert (place / "run[a]" / "_SUCCESS.json").is_file()
    assert _run(place, output="run[a]") == 0
    assert "run[a]/report.html" in capsys.readouterr().out
    assert (place / "run[a]" / "report.html").is_file()


def test_manifest_is_read_at_most_twice_at_the_end_of_a_run(place, monkeypatch):
    reads = Counter()
    read = Storage.read

    def counted(storage, path):
        reads[path] += path.startswith("manifest/")
        return read(storage, path)

    monkeypatch.setattr(Storage, "read", counted)
    assert _run(place) == 0
    assert 0 < reads["manifest/part-00000.parquet"] <= 2
