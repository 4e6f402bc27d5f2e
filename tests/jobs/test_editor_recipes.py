"""The recipes of transformer editors: each is a plan, and says what its editor's licence means."""

import json
from pathlib import Path

import pytest
from overpaint.jobs.cli import main
from overpaint.jobs.recipes import load_plan
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.recipes.recipe import plan_from_tables, read_toml, recipe_of
from overpaint.pipeline.terms import TERMS

FOLDER = Path(__file__).parents[2] / "jobs/recipes"
EDITORS = {
    "flux2-klein": ("apache-2.0", {"forward": 4, "vae_encode": 2, "vae_decode": 1, "text": 1}),
    "flux2-klein-inpaint": (
        "apache-2.0",
        {"forward": 4, "vae_encode": 2, "vae_decode": 1, "text": 1},
    ),
    "qwen-edit-2511": (
        "apache-2.0",
        {"forward": 80, "vae_encode": 2, "vae_decode": 1, "text": 2, "vision": 4},
    ),
    "qwen-edit-2511-lightning": (
        "apache-2.0",
        {"forward": 4, "vae_encode": 2, "vae_decode": 1, "text": 1, "vision": 2},
    ),
    "longcat-edit-turbo": (
        "apache-2.0",
        {"forward": 8, "vae_encode": 1, "vae_decode": 1, "text": 1, "vision": 1},
    ),
    "firered-edit": (
        "apache-2.0",
        {"forward": 80, "vae_encode": 2, "vae_decode": 1, "text": 2, "vision": 4},
    ),
    "flux-kontext": (
        "non-commercial",
        {"forward": 28, "vae_encode": 1, "vae_decode": 1, "text": 1},
    ),
}
"""Terms, and evaluations of a row with a mask and one reference."""


@pytest.mark.parametrize("name", EDITORS)
def test_recipe_plans_its_evaluations(name, tmp_path, capsys):
    terms, counts = EDITORS[name]
    plan = load_plan(name, ())
    assert plan.name == name
    plan.check_models()
    (edit,) = (stage.operator for stage in plan.stages if stage.operator.kind == "edit")
    planned = {"instruction": "make it blue", "references": ["a.png"]}
    assert edit.cost(planned, {}).counts() == counts
    row = {"source_uri": "a.png", "mask_uri": "m.png", **planned}
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(row) + "\n")
    assert main(["plan", name, "--input", str(rows)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"terms of the editor: {terms}: {TERMS[terms]}" in told
    assert f"{counts['forward']} forward" in told


@pytest.mark.parametrize("name", EDITORS)
def test_references_are_in_the_key_where_the_editor_takes_them(name):
    takes_references = EDITORS[name][1]["vae_encode"] > 1
    assert ("references" in load_plan(name, ()).key_columns()) == takes_references


RECIPE = """
name = "one"
terms = "{}"
[[stage]]
operator = "edit"
method = "sdedit"
"""


def test_terms_are_known_words_and_are_kept():
    plan = plan_from_tables(read_toml(RECIPE.format("research"), "a.toml"), "a.toml")
    assert recipe_of(plan)["terms"] == "research"
    assert "terms" not in recipe_of(plan.model_copy(update={"terms": ""}))
    with pytest.raises(UsageError, match="did you mean 'research'"):
        plan_from_tables(read_toml(RECIPE.format("reserch"), "a.toml"), "a.toml")
