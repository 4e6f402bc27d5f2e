"""A run that is given another form keeps what still holds, and ends as a fresh run would."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from overpaint.pipeline.storage.store import Storage
from toy_operators import ToyEdit
from toy_runs import outputs, write_sources

RECIPE = """
[[stage]]
operator = "toy_operators:ToyEdit"
name = "edit"
strength = {strength}
group = "edit"
[[stage]]
operator = "toy_operators:ToyScore"
name = "score"
scale = {scale}
group = "{group}"
[[stage]]
operator = "toy_operators:ToyCompare"
name = "compare"
scale = {compare}
group = "{group}"
[policy]
brightness = {{ min = {least} }}
[limits]
task_rows = 4
"""
FIELDS = {"strength": 0.5, "scale": 1.0, "compare": 1.0, "group": "score", "least": 0.0}
NUM_ROWS = 10


@pytest.fixture
def place(tmp_path):
    """A folder with sources and a table of ten rows, one of which fails."""
    names = write_sources(tmp_path / "input", NUM_ROWS)
    _write_table(tmp_path, [_asked(name) for name in names])
    return tmp_path


def _asked(name):
    return {"source_uri": name, "instruction": "raise" if "007" in name else f"paint {name}"}


def _write_table(place, rows):
    (place / "input" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _run(place, output, *options, **fields):
    recipe = place / "recipe.toml"
    recipe.write_text(RECIPE.format(**{**FIELDS, **fields}))
    given = ["--input", str(place / "input"), "--output", str(place / output), "--no-ray"]
    return main(["run", str(recipe), *given, *options])


def _written(place):
    """When each image was written: an edit that is made again is written again."""
    images = (place / "run" / "images").rglob("*.png")
    return {path.name: path.stat().st_mtime_ns for path in images}


def _refuse_to_load(operator):
    raise AssertionError("no row needs this model")


def _manifest(place):
    return pq.read_table(place / "run" / "manifest").to_pylist()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"scale": 2.0}, id="a score that sees the edit"),
        pytest.param({"compare": 2.0}, id="a judge that sees source and edit"),
        pytest.param({"least": 0.5}, id="the policy"),
        pytest.param({"group": "edit", "compare": 3.0}, id="a judge beside the editor"),
    ],
)
def test_new_scores_need_neither_a_new_edit_nor_its_model(place, change, monkeypatch):
    _write_table(place, [_asked(f"source-00{index}.png") for index in range(7)])
    assert _run(place, "run") == 0
    before = _written(place)
    assert _run(place, "run", **change) == 2
    with monkeypatch.context() as patch:
        patch.setattr(ToyEdit, "load", _refuse_to_load)
        assert _run(place, "run", "--update", **change) == 0
    assert _written(place) == before
    assert _run(place, "fresh", **change) == 0
    assert outputs(str(place / "run")) == outputs(str(place / "fresh"))
    assert main(["verify", str(place / "run")]) == 0


CHAIN = """
[[stage]]
operator = "toy_operators:ToyEdit"
name = "draft"
group = "edit"
[[stage]]
operator = "toy_operators:ToyEdit"
name = "final"
reads = {{ source_image = "edited_image" }}
prefix = "final_"
group = "edit"
[[stage]]
operator = "toy_operators:ToyScore"
name = "score"
reads = {{ edited_image = "final_edited_image" }}
writes = {{ brightness = "{name}" }}
"""


def test_new_score_of_a_chain_starts_from_what_its_last_edit_stored(place, monkeypatch):
    _write_table(place, [_asked(f"source-00{index}.png") for index in range(3)])
    monkeypatch.setitem(globals(), "RECIPE", CHAIN)
    assert _run(place, "run", name="brightness") == 0
    before = _written(place)
    with monkeypatch.context() as patch:
        patch.setattr(ToyEdit, "load", _refuse_to_load)
        assert _run(place, "run", "--update", name="final_brightness") == 0
    assert _written(place) == before
    assert _run(place, "fresh", name="final_brightness") == 0
    assert outputs(str(place / "run")) == outputs(str(place / "fresh"))


def test_another_edit_is_made_again_and_the_old_one_goes(place):
    assert _run(place, "run") == 0
    before = _written(place)
    assert _run(place, "run", "--update", strength=0.25) == 0
    assert not _written(place).keys() & before.keys()
    assert _run(place, "fresh", strength=0.25) == 0
    assert outputs(str(place / "run")) == outputs(str(place / "fresh"))


def test_changed_table_is_seen_and_only_its_new_rows_are_edited(place, capsys):
    assert _run(place, "run") == 0
    before = _written(place)
    names = write_sources(place / "input", NUM_ROWS + 2)
    rows = [_asked(name) for name in names]
    rows[3]["instruction"] = "paint it otherwise"
    _write_table(place, [rows[11], *rows[1:11]])
    assert _run(place, "run") == 2
    assert "the input's content" in capsys.readouterr().err
    assert _run(place, "run", "--update") == 0
    after = _written(place)
    kept = before.keys() & after.keys()
    # One row left the table, one was reworded, and the failed one never had an image.
    assert len(kept) == NUM_ROWS - 3
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert _run(place, "fresh") == 0
    assert outputs(str(place / "run")) == outputs(str(place / "fresh"))


def test_unfinished_run_takes_another_form(place, tmp_path):
    table = place / "input" / "rows.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    for row in rows[5:]:
        row["instruction"] = "raise"
    _write_table(place, rows)
    budget = "\n[budget]\nmin_rows = 4\nmax_failed_share = 0.01\n"
    global_recipe = RECIPE + budget
    recipe = place / "recipe.toml"
    recipe.write_text(global_recipe.format(**FIELDS))
    given = ["--input", str(place / "input"), "--output", str(place / "run"), "--no-ray"]
    assert main(["run", str(recipe), *given]) == 4
    before = _written(place)
    assert before
    _write_table(place, [_asked(row["source_uri"]) for row in rows])
    assert _run(place, "run", "--update", scale=2.0) == 0
    assert before.items() <= _written(place).items()
    assert _run(place, "fresh", scale=2.0) == 0
    assert outputs(str(place / "run")) == outputs(str(place / "fresh"))


def test_replaced_source_is_edited_again(place):
    assert _run(place, "run") == 0
    before = _written(place)
    shutil.copy(place / "input" / "source-002.png", place / "input" / "source-004.png")
    assert _run(place, "run", "--update", compare=2.0) == 0
    after = _written(place)
    assert sum(after[name] != before[name] for name in before) == 1
    assert _run(place, "fresh", compare=2.0) == 0
    assert outputs(str(place / "run")) == outputs(str(place / "fresh"))


def test_failed_rows_are_tried_again(place):
    assert _run(place, "run") == 0
    broken = place / "input" / "source-005.png"
    sound = broken.read_bytes()
    broken.write_bytes(b"no image")
    assert _run(place, "broken") == 0
    broken.write_bytes(sound)
    shutil.rmtree(place / "run")
    (place / "broken").rename(place / "run")
    assert sum(row["status"] == "failed" for row in _manifest(place)) == 2
    assert _run(place, "run", "--update") == 0
    assert [row["source_uri"] for row in _manifest(place) if row["status"] == "failed"] == [
        "source-007.png"
    ]


@pytest.mark.parametrize("at", range(0, 12, 2))
def test_killed_while_it_takes_over_goes_on_by_the_same_command(place, monkeypatch, at):
    assert _run(place, "run") == 0
    writes: list[str] = []
    write = Storage.write

    def dying(storage: Storage, path: str, data: bytes) -> None:
        if len(writes) == at:
            raise KeyboardInterrupt
        writes.append(path)
        write(storage, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write", dying)
        assert _run(place, "run", "--update", scale=2.0) == 3
    assert _run(place, "run", "--update", scale=2.0) == 0
    assert _run(place, "fresh", scale=2.0) == 0
    assert outputs(str(place / "run")) == outputs(str(place / "fresh"))
    assert not (place / "run" / "_work").exists()


def test_other_versions_are_seen_while_a_run_is_unfinished(place, capsys):
    assert _run(place, "run") == 0
    (place / "run" / "_SUCCESS.json").rename(place / "run" / "_work_was_here")
    (place / "run" / "_work_was_here").unlink()
    recipe = place / "run" / "recipe.json"
    record = json.loads(recipe.read_text())
    record["versions"]["torch"] = "1.0"
    recipe.write_text(json.dumps(record))
    (place / "run" / "_work").mkdir()
    (place / "run" / "_work" / "planned.json").write_text('{"planned": 10, "duplicates": 0}')
    assert _run(place, "run") == 2
    assert "torch 1.0 then" in capsys.readouterr().err
    before = _written(place)
    assert _run(place, "run", "--update") == 0
    assert _written(place) == before
    record = json.loads(Path(recipe).read_text())
    assert record["earlier"][0]["versions"]["torch"] == "1.0"
