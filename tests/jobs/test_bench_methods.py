"""`bench methods`: cells of drawn edits, measured once, kept in a table, and printed."""

import json
from dataclasses import replace

import numpy as np
import pytest
from overpaint.jobs.bench.methods.cases import cases_of, find_cases, shipped_recipes
from overpaint.jobs.bench.methods.drawn_rows import Drawing, DrawnEdits
from overpaint.jobs.bench.methods.methods import Request, measure_methods
from overpaint.jobs.bench.methods.running import Runner
from overpaint.jobs.bench.methods.sheet import best_cells, methods_sheet
from overpaint.jobs.cli import main
from overpaint.operators.methods import METHODS
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.recipes.method_table import read_method_table

RECIPE = """
[[stage]]
operator = "invert"
group = "models"
num_inference_steps = 2
[[stage]]
operator = "edit"
method = "ddim"
group = "models"
strength = 1.0
[[stage]]
operator = "truth"
group = "models"
"""
OTHER = RECIPE.replace("strength = 1.0", "strength = 0.5")


@pytest.fixture
def runner():
    drawing = Drawing()
    yield Runner(drawing)
    drawing.close()


def edits(rows=2):
    return DrawnEdits(edit_type="color", split="train", seed=3, rows=rows)


def test_cases_share_the_stages_that_they_begin_with(runner):
    first = cases_of("first", RECIPE, {"batch_size": 2})[0]
    second = cases_of("second", OTHER, {"batch_size": 2})[0]
    model = first.edit.load()[""]
    run = runner.run(first, edits())
    before = model.spent.forward
    also = runner.run(second, edits())
    # Two rows, one step of two, with guidance; the inversion is not made again.
    assert model.spent.forward - before == 2 * 1 * 2
    assert also.cost.forward == run.cost.forward - 2 * 1 * 2
    assert also.seconds > 0
    runner.forget()
    alone = runner.run(second, edits())
    assert [r["edited_image"] for r in alone.rows] == [r["edited_image"] for r in also.rows]


def test_mask_is_given_where_it_is_asked_for_and_limits_the_edit(runner):
    plain, masked = cases_of("one", RECIPE, {"batch_size": 2})
    assert (plain.mask, masked.mask) == ("none", "given")
    free, held = (runner.run(case, edits()) for case in (plain, masked))
    worse = [row["truth_outside_psnr_db"] for row in free.rows]
    better = [row["truth_outside_psnr_db"] for row in held.rows]
    assert all(inside > outside for inside, outside in zip(better, worse, strict=True))


def test_fewer_rows_of_a_seed_are_the_first_of_more():
    drawing = Drawing()
    (case, _) = cases_of("one", RECIPE, {})
    few, many = (drawing.rows(edits(number), (), case.plan) for number in (2, 4))
    assert [row["instruction"] for row in many[:2]] == [row["instruction"] for row in few]
    drawing.close()


def test_every_method_that_papercut_can_run_has_a_case():
    methods = {case.method for case in find_cases((), "papercut")}
    wanted = {
        name
        for name in METHODS.names()
        if METHODS.find(name).papercut is not None and METHODS.find(name).edit_types
    }
    assert wanted <= methods


def test_cells_are_measured_once_and_go_on(tmp_path):
    file, new = tmp_path / "table.json", []
    request = Request(recipes=["ddnm"], edit_types=["replace"], rows=2, split="train", processes=1)
    table = measure_methods(request, file, new.append)
    (cell,) = table.cells
    assert (cell.recipe, cell.method, cell.mask, cell.rows) == ("ddnm", "ddnm", "given", 2)
    assert (cell.training, cell.failed) == ("pictures", 0)
    assert cell.evaluations == {"forward": 40.0, "vae_encode": 1.0, "vae_decode": 1.0, "text": 1.0}
    assert cell.oracle == 1.0
    assert read_method_table(file) == table
    assert measure_methods(request, file, new.append) == table
    assert len(new) == 1, "what is known is not measured again"
    older = json.loads(file.read_text())
    older["recipes"]["ddnm"]["revisions"] = {"edit": {"checkpoint": "of other weights"}}
    older["cells"].append({**older["cells"][0], "edit_type": "remove"})
    file.write_text(json.dumps(older))
    again = measure_methods(request, file, new.append)
    assert len(new) == 2
    assert len(again.cells) == 1, "figures of other weights are not kept"
    assert again.cells[0].success == cell.success
    assert again.cells[0].fingerprint == cell.fingerprint


@pytest.mark.slow
def test_sheet_shows_a_source_the_best_and_the_truth_of_each_type_that_was_measured(tmp_path):
    request = Request(recipes=["ddnm"], edit_types=["remove"], rows=1, split="train", processes=1)
    table = measure_methods(request, None, lambda cell: None)
    also = table.cells[0].model_copy(update={"mask": "none", "success": 0.0})
    router = table.cells[0].model_copy(update={"method": "auto", "success": 1.0})
    table = table.model_copy(update={"cells": [router, *table.cells, also]})
    assert [cell.mask for cell in best_cells(table, "remove")] == ["given"]
    sheet = np.asarray(methods_sheet(table))
    assert sheet.shape[2] == 3
    columns = (sheet < 255).any(axis=(0, 2)).nonzero()[0]
    # A source, an edit, two empty places and the truth, in the left one of two panels.
    assert columns.max() < sheet.shape[1] // 2
    assert np.diff(columns).max() > 200


@pytest.mark.slow
def test_several_processes_measure_the_same_as_one(tmp_path):
    request = Request(recipes=["ddnm", "sdedit"], edit_types=["replace"], rows=2, split="train")
    one, two = (
        measure_methods(replace(request, processes=number), None, lambda cell: None)
        for number in (1, 2)
    )
    assert [c.success for c in one.cells] == [c.success for c in two.cells]
    assert [c.gain for c in one.cells] == [c.gain for c in two.cells]


def test_command_prints_cells_and_refuses_what_is_not_there(tmp_path, capfd):
    file = tmp_path / "table.json"
    measured = ["--methods", "ddnm", "--edit-types", "remove", "--rows", "1", "--processes", "1"]
    assert main(["bench", "methods", *measured, "--json", str(file)]) == 0
    out = capfd.readouterr().out
    assert "ddnm remove (given mask, 1 test rows): success" in out
    assert main(["bench", "methods", "--methods", "repant"]) == 2
    assert "did you mean 'repaint'" in capfd.readouterr().err
    assert main(["bench", "methods", "--edit-types", "colour"]) == 2
    assert "did you mean 'color'" in capfd.readouterr().err
    file.write_text(file.read_text().replace('"papercut"', '"mine/own"', 1))
    assert main(["bench", "methods", *measured, "--json", str(file)]) == 2
    assert "a table of mine/own" in capfd.readouterr().err


def test_recipe_that_changes_the_source_is_no_case():
    with pytest.raises(UsageError, match="no method that was asked for"):
        find_cases(["outpaint"], "papercut")
    assert "outpaint" in shipped_recipes()
