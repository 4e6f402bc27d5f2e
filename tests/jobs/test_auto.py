"""`method = "auto"`: each row takes the method that a table finds best for it."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from overpaint.jobs.bench.methods.cases import find_cases
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.operators.edit import Edit
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.recipes.method_table import Cell, MethodTable
from overpaint.pipeline.recipes.recipe import plan_from_tables, recipe_of
from pydantic import ValidationError

SUCCESS = {
    ("sdedit", "color", "none"): 0.5,
    ("dds", "color", "none"): 0.8,
    ("dds", "replace", "none"): 0.6,
    ("ddnm", "replace", "given"): 0.9,
    ("prompt_to_prompt", "texture", "none"): 0.7,
    ("edit_friendly", "texture", "none"): 0.4,
    ("dragon_diffusion", "move", "given"): 0.9,
    ("instruct_pix2pix", "move", "none"): 0.6,
}
FORWARD = {"instruct_pix2pix": 60, "dds": 30, "dragon_diffusion": 100}
ROWS = {
    "color": {"edit_type": "color"},
    "replace": {"edit_type": "replace"},
    "masked": {"edit_type": "replace", "in_mask_uri": "m.png"},
    "texture": {"edit_type": "texture"},
    "dragged": {"edit_type": "move", "points": [[1.0, 1.0, 9.0, 9.0]], "in_mask_uri": "m.png"},
    "move": {"edit_type": "move"},
    "pose": {"edit_type": "pose"},
    "untyped": {},
    "named": {"edit_type": "texture", "in_method": "ddnm"},
}


def cell(recipe, edit_type, mask, success, **fields):
    given = {
        "recipe": recipe,
        "method": recipe,
        "edit_type": edit_type,
        "mask": mask,
        "training": "edits" if recipe == "instruct_pix2pix" else "pictures",
        "split": "train",
        "seed": 0,
        "rows": 16,
        "fingerprint": f"{recipe}-{edit_type}-{mask}",
        "success": success,
        "oracle": 1.0,
        "gain": success,
        "outside_psnr_db": 30.0,
        "attributes_right": None,
        "mask_iou": None,
        "evaluations": {"forward": FORWARD.get(recipe, 50)},
        "seconds": 1.0,
        "failed": 0,
        "machine": "a test",
    }
    return Cell(**{**given, **fields})


@pytest.fixture(scope="module")
def table():
    """A table with the recipes that come along, and success as above."""
    cases = find_cases(sorted({recipe for recipe, _, _ in SUCCESS}), "papercut")
    return MethodTable(
        checkpoint="papercut",
        recipes={case.recipe: case.measured for case in cases},
        cells=[cell(*place, success) for place, success in SUCCESS.items()],
    )


def stage(file, **fields):
    return {"operator": "edit", "method": "auto", "table": str(file), "group": "g", **fields}


def plan_of(table, folder, *others, **fields):
    file = folder / "table.json"
    file.write_text(table.model_dump_json())
    stages = [stage(file, **fields), *others]
    return plan_from_tables({"name": "auto", "stage": stages}, "auto.toml")


def choice(plan, name):
    """The method that one of ROWS takes."""
    (edit,) = (s for s in plan.stages if s.operator.kind == "edit")
    row = {"target_prompt": "a blue cat", "instruction": "make it blue", **ROWS[name]}
    return edit.operator.choice_of(edit.to_operator(row))


def choices(plan):
    """The method that each of ROWS takes."""
    return {name: choice(plan, name) for name in ROWS}


def test_rows_take_the_best_method_for_their_type_and_for_what_they_have(table, tmp_path):
    assert choices(plan_of(table, tmp_path)) == {
        "color": "dds",
        "replace": "dds",
        "masked": "ddnm",
        "texture": "prompt_to_prompt",
        "dragged": "dragon_diffusion",
        "move": "instruct_pix2pix",
        "pose": "dds",
        "untyped": "dds",
        "named": "ddnm",
    }


@pytest.mark.parametrize(
    ("fields", "row", "method"),
    [
        ({"max_forward": 60}, "dragged", "instruct_pix2pix"),
        ({"training": "pictures"}, "dragged", "dragon_diffusion"),
        ({"min_success": 0.95}, None, "no cell of training scenes that is allowed"),
        ({"max_forward": 45}, "texture", "dds"),
        ({"max_forward": 0}, None, "max_forward"),
        ({"max_foward": 9}, None, "'max_foward': did you mean 'max_forward'"),
        ({"training": "none"}, None, "training"),
    ],
)
def test_limits_choose_or_are_refused(fields, row, method, table, tmp_path):
    if row is None:
        with pytest.raises(UsageError, match=method):
            plan_of(table, tmp_path, **fields)
    else:
        assert choice(plan_of(table, tmp_path, **fields), row) == method


def test_move_without_points_and_without_trained_editors_takes_the_default(table, tmp_path):
    plan = plan_of(table, tmp_path, training="pictures")
    assert choice(plan, "move") == "dds"


def test_stages_that_the_methods_need_come_before_the_edit_and_serve_their_rows(table, tmp_path):
    plan = plan_of(table, tmp_path)
    assert [s.name for s in plan.stages] == ["fetch", "invert", "edit", "store"]
    invert, edit = plan.stages[1:3]
    needed = {
        name: invert.is_needed([edit], {"target_prompt": "x", "instruction": "y", **row})
        for name, row in ROWS.items()
    }
    assert {name for name, is_needed in needed.items() if is_needed} == {
        "texture",
        "dragged",
    }
    assert "mask" in plan.stages[0].operator.optional_conditions


def test_inversions_that_write_the_same_are_not_both_taken(table, tmp_path):
    cells = [*table.cells, cell("edit_friendly", "style", "none", 0.3)]
    both = [*cells, cell("null_text", "style", "none", 0.9)]
    recipes = {c.recipe: c.measured for c in find_cases(["null_text"], "papercut")}
    invert = recipes["null_text"].stages[0]
    other = recipes["null_text"].model_copy(
        update={"stages": [{**invert, "num_inference_steps": 7}, *recipes["null_text"].stages[1:]]}
    )
    grown = table.model_copy(
        update={"cells": both, "recipes": {**table.recipes, "null_text": other}}
    )
    plan = plan_of(grown, tmp_path)
    names = [s.name for s in plan.stages]
    assert names.count("invert") == 1
    (edit,) = (s.operator for s in plan.stages if s.operator.kind == "edit")
    assert "style" in edit.routes
    assert len({"null_text", "prompt_to_prompt"} & set(edit.choices)) == 1


def test_plan_that_was_recorded_is_read_again(table, tmp_path):
    plan = plan_of(table, tmp_path)
    again = plan_from_tables(recipe_of(plan), "recorded")
    assert again.fingerprints() == plan.fingerprints()
    assert choices(again) == choices(plan)
    (edit,) = (s.operator for s in again.stages if s.operator.kind == "edit")
    assert edit.routes_from == table.digest


def test_edit_by_itself_cannot_stand_for_several_stages():
    with pytest.raises(ValidationError, match="stands for several stages"):
        Edit(method="auto")


def test_other_weights_and_other_checkpoints_are_refused(table, tmp_path):
    other = {
        name: recipe.model_copy(update={"revisions": {"edit": {"checkpoint": "0" * 16}}})
        for name, recipe in table.recipes.items()
    }
    with pytest.raises(UsageError, match="on other weights of 'papercut'"):
        plan_of(table.model_copy(update={"recipes": other}), tmp_path)
    with pytest.raises(UsageError, match="a table of 'papercut', and the stage is of 'mine/own'"):
        plan_of(table, tmp_path, checkpoint="mine/own")
    with pytest.raises(UsageError, match="bench methods --checkpoint mine/own"):
        plan_from_tables({"name": "x", "stage": [stage("", checkpoint="mine/own")]}, "auto.toml")
    with pytest.raises(UsageError, match="no such table"):
        plan_from_tables({"name": "x", "stage": [stage(tmp_path / "none.json")]}, "auto.toml")
    (tmp_path / "wrong.json").write_text('{"checkpoint": 1}')
    with pytest.raises(UsageError, match="not a table of methods"):
        plan_from_tables({"name": "x", "stage": [stage(tmp_path / "wrong.json")]}, "auto.toml")


def test_run_edits_rows_by_their_methods_and_another_table_keeps_what_is_equal(
    table, tmp_path, capfd
):
    write_dataset(tmp_path / "drawn", rows=4, seed=2, edit_types=["color", "replace"])
    small = {"dds": 2, "sdedit": 2}
    recipes = {
        name: recipe.model_copy(
            update={"stages": [{**recipe.stages[0], "num_inference_steps": small[name]}]}
        )
        for name, recipe in table.recipes.items()
        if name in small
    }
    cells = [cell("dds", "color", "none", 0.9), cell("sdedit", "replace", "none", 0.9)]
    first = table.model_copy(update={"recipes": recipes, "cells": cells})
    swapped = [cells[0], cell("dds", "replace", "none", 0.95), cells[1]]
    chosen = run(tmp_path, first)
    assert [row["method"] for row in chosen] == ["dds", "sdedit"] * 2
    after = run(tmp_path, first.model_copy(update={"cells": swapped}), "--update")
    assert [row["method"] for row in after] == ["dds"] * 4
    same = {row["key"] for row in chosen} & {row["key"] for row in after}
    assert same == {row["key"] for row in chosen if row["method"] == "dds"}


def run(folder: Path, table: MethodTable, *arguments) -> list[dict]:
    """The manifest of a run of four rows, in the order of the input."""
    (folder / "table.json").write_text(table.model_dump_json())
    recipe = folder / "auto.toml"
    lines = [f"{key} = {json.dumps(value)}" for key, value in stage(folder / "table.json").items()]
    recipe.write_text('name = "auto"\n[[stage]]\n' + "\n".join(lines) + "\n")
    where = ["--input", str(folder / "drawn"), "--output", str(folder / "out"), "--no-ray"]
    assert main(["run", str(recipe), *where, *arguments]) == 0
    parts = sorted((folder / "out/manifest").glob("*.parquet"))
    rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
    return sorted(rows, key=lambda row: row["source_uri"])
