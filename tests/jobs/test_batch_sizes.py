"""Batch sizes that a run finds by a probe, keeps, and gives every actor."""

import json

import jsonschema
import pytest
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.recipes.recipe import plan_from_tables, recipe_of
from overpaint.pipeline.recipes.schema import recipe_schema

RECIPE = """
name = "probed"
[[stage]]
operator = "{operator}"
name = "edit"
batch_size = {size}
{fields}
[limits]
task_rows = {task_rows}
"""
SDEDIT = {
    "operator": "edit",
    "fields": 'method = "sdedit"\ncheckpoint = "papercut"\nnum_inference_steps = 2',
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "input"
    write_dataset(folder, rows=5, seed=3)
    return folder


def _run(folder, drawn, operator, size='"auto"', fields="", task_rows=8, output="run", ray=False):
    recipe = folder / "recipe.toml"
    text = RECIPE.format(operator=operator, size=size, fields=fields, task_rows=task_rows)
    recipe.write_text(text)
    command = ["run", str(recipe), "--input", str(drawn), "--output", str(folder / output)]
    return main([*command, *([] if ray else ["--no-ray"])])


def _found(folder, output="run"):
    record = json.loads((folder / output / "recipe.json").read_text())
    return next(s["batch_size"] for s in record["recipe"]["stage"] if s["name"] == "edit")


@pytest.mark.parametrize(
    ("operator", "fields", "size", "limit"),
    [
        ("negative", "batch_ms = 100", 8, "task_rows"),
        ("sized_operators:TimeARow", "batch_ms = 40", 1, "gain"),
        ("sized_operators:TimeARow", "batch_ms = 100\nshared = 4", 4, "gain"),
        ("sized_operators:SmallDevice", "batch_ms = 100", 4, "memory"),
        ("sized_operators:OneByOne", "batch_ms = 10", 1, "refused"),
    ],
)
def test_batch_is_doubled_up_to_the_knee(capsys, tmp_path, drawn, operator, fields, size, limit):
    assert _run(tmp_path, drawn, operator, fields=fields) == 0
    assert f"ended by {limit})" in capsys.readouterr().out
    assert _found(tmp_path) == size


def test_run_keeps_the_size_that_it_began_with(capsys, tmp_path, drawn):
    assert _run(tmp_path, drawn, "negative", fields="batch_ms = 100", task_rows=4) == 0
    assert _found(tmp_path) == 4
    (tmp_path / "run" / "_SUCCESS.json").unlink()
    capsys.readouterr()
    assert _run(tmp_path, drawn, "negative", fields="batch_ms = 100", task_rows=32) == 0
    assert "rows a second" not in capsys.readouterr().out
    assert _found(tmp_path) == 4


@pytest.mark.ray
@pytest.mark.slow
def test_all_actors_on_ray_have_the_size_that_was_found(capsys, tmp_path, drawn):
    fields = "batch_ms = 100\nplacement = { num_cpus = 0.5, actors = [1, 2] }"
    assert _run(tmp_path, drawn, "negative", fields=fields, task_rows=2, ray=True) == 0
    assert "rows a second" in capsys.readouterr().out
    assert _found(tmp_path) == 2


@pytest.mark.slow
def test_model_s_rows_have_the_keys_and_bytes_of_a_recipe_with_that_size(tmp_path, drawn):
    assert _run(tmp_path, drawn, **SDEDIT, task_rows=4) == 0
    size = _found(tmp_path)
    assert 1 <= size <= 4
    assert _run(tmp_path, drawn, **SDEDIT, size=size, task_rows=4, output="fixed") == 0
    made, fixed = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "images").rglob("*.png")}
        for name in ("run", "fixed")
    )
    assert len(made) == 5
    assert made == fixed


def test_plan_and_recipe_show_a_size_that_is_open(capsys, tmp_path, drawn):
    tables = {"name": "x", "stage": [{"operator": "negative", "batch_size": "auto"}]}
    plan = plan_from_tables(tables, "recipe.toml")
    resolved = recipe_of(plan)
    assert resolved["stage"][1]["batch_size"] == "auto"
    assert recipe_of(plan_from_tables(resolved, "recipe.json")) == resolved
    jsonschema.validate(tables, recipe_schema())
    given = ["--input", str(drawn), "--set", "edit.batch_size=auto"]
    assert main(["plan", "demo", *given]) == 0
    assert " auto " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ({"operator": "negative", "batch_size": "aut"}, "batch_size = 'aut'"),
        ({"operator": "store", "batch_size": "auto"}, "'auto' is no batch size of store"),
        (
            {"operator": "edit", "choices": {"a": {"method": "sdedit"}}, "batch_size": "auto"},
            "rows choose among several: give a number",
        ),
    ],
)
def test_wrong_word_for_a_size_is_refused(stage, said):
    with pytest.raises(UsageError, match=said):
        plan_from_tables({"name": "x", "stage": [{"operator": "negative"}, stage]}, "recipe.toml")
