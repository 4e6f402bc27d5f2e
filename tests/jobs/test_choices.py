"""Rows that choose their editing method, two judges, and edits in a chain."""

import json
import re
import tomllib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.recipes.recipe import plan_from_tables

STAGE = {
    "invert": """
[[stage]]
operator = "invert"
checkpoint = "papercut"
num_inference_steps = 4
batch_size = 2
group = "all"
""",
    "sdedit": """
[[stage]]
operator = "edit"
method = "sdedit"
checkpoint = "papercut"
num_inference_steps = 4
batch_size = 2
group = "all"
""",
    "ddim": """
[[stage]]
operator = "edit"
method = "ddim"
checkpoint = "papercut"
batch_size = 2
group = "all"
""",
    "choices": """
[[stage]]
operator = "edit"
checkpoint = "papercut"
batch_size = 2
group = "all"
[stage.choices.sdedit]
num_inference_steps = 4
[stage.choices.ddim]
[stage.choices.strong]
method = "sdedit"
num_inference_steps = 4
strength = 1.0
""",
}
METHODS = ["sdedit", "ddim", "strong"]


def run(folder: Path, output: str, stages: str, rows, *arguments) -> list[dict]:
    """A run over rows; returns its manifest."""
    table = folder / "drawn/rows.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = folder / f"{output}.toml"
    recipe.write_text(f'name = "{output}"\n{stages}')
    options = ("--no-ray", "--input", str(folder / "drawn"), "--output", str(folder / output))
    assert main(["run", str(recipe), *options, *arguments]) == 0
    parts = sorted((folder / output / "manifest").glob("*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with drawn edits, and their rows."""
    folder = tmp_path_factory.mktemp("choices")
    write_dataset(folder / "drawn", rows=6, seed=8)
    lines = (folder / "drawn/rows.jsonl").read_text().splitlines()
    return folder, [json.loads(line) for line in lines]


def test_rows_choose_their_method_and_keep_key_and_pixels_of_a_plan_with_it_alone(drawn):
    folder, rows = drawn
    mixed = [{**row, "method": METHODS[index % 3]} for index, row in enumerate(rows)]
    chosen = run(folder, "mixed", STAGE["invert"] + STAGE["choices"], mixed)
    assert [row["in_method"] for row in chosen] == [row["method"] for row in mixed]
    assert [row["method"] for row in chosen] == ["sdedit", "ddim", "sdedit"] * 2
    assert [json.loads(row["params_json"]).get("strength") for row in chosen[:3]] == [0.7, 0.8, 1.0]
    for name, stages in (("sdedit", "sdedit"), ("ddim", "invert ddim")):
        text = "".join(STAGE[stage] for stage in stages.split())
        alone = {row["key"]: row for row in run(folder, f"only_{name}", text, rows)}
        same = [row for row in chosen if row["in_method"] == name]
        assert len(same) == 2
        for row in same:
            assert row["edited_sha256"] == alone[row["key"]]["edited_sha256"]
            assert row["fingerprint"] == alone[row["key"]]["fingerprint"]


def test_another_choice_keeps_what_was_edited(drawn, capfd):
    folder, rows = drawn
    mixed = [{**row, "method": METHODS[index % 2]} for index, row in enumerate(rows)]
    stages = STAGE["invert"] + STAGE["choices"]
    before = run(folder, "grown", stages, mixed)
    more = stages + "[stage.choices.weak]\nmethod = 'sdedit'\nstrength = 0.3\n"
    mixed[-1]["method"] = "weak"
    after = run(folder, "grown", more, mixed, "--update")
    kept = {row["key"] for row in before} & {row["key"] for row in after}
    assert len(kept) == len(rows) - 1
    assert "5 of 6 rows have ended" in capfd.readouterr().out, "one row was edited"


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"edit_params": "{"}, "edit_params_invalid"),
        ({"edit_params": '{"strenth": 0.5}'}, "edit_params_invalid"),
        ({"strength": 7.0}, "edit_params_invalid"),
    ],
)
def test_wrong_settings_of_a_row_fail_that_row_alone(columns, code, drawn):
    folder, rows = drawn
    broken = [dict(rows[0]), {**rows[1], **columns}, dict(rows[2])]
    name = f"broken_{abs(hash(str(columns)))}"
    ended = run(folder, name, STAGE["sdedit"], broken)
    assert [row["error_code"] for row in ended] == [None, code, None]


def test_settings_of_a_row_change_its_key_and_its_picture(drawn):
    folder, rows = drawn
    plain = [{**row, "seed": 5} for row in rows[:2]]
    own = [{**plain[0], "strength": 0.2}, {**plain[1], "edit_params": '{"strength": 0.2}'}]
    before = run(folder, "plain", STAGE["sdedit"], plain)
    after = run(folder, "own", STAGE["sdedit"], own)
    assert [json.loads(row["params_json"])["strength"] for row in after] == [0.2, 0.2]
    for one, other in zip(before, after, strict=True):
        assert one["key"] != other["key"]
        assert one["edited_sha256"] != other["edited_sha256"]


def test_unknown_choice_is_refused_before_anything_is_started(drawn, capfd):
    folder, rows = drawn
    table = folder / "drawn/rows.jsonl"
    table.write_text(json.dumps({**rows[0], "method": "sdedi"}) + "\n")
    (folder / "wrong.toml").write_text('name = "x"\n' + STAGE["invert"] + STAGE["choices"])
    options = ("--no-ray", "--input", str(folder / "drawn"), "--output", str(folder / "wrong"))
    assert main(["run", str(folder / "wrong.toml"), *options]) == 2
    assert "did you mean 'sdedit'" in capfd.readouterr().err


def test_plan_counts_an_inversion_only_for_rows_whose_method_needs_it(drawn, capfd):
    folder, rows = drawn
    mixed = [
        {**row, "method": "ddim" if index == 0 else "sdedit"} for index, row in enumerate(rows)
    ]
    (folder / "drawn/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mixed))
    (folder / "costs.toml").write_text('name = "x"\n' + STAGE["invert"] + STAGE["choices"])
    assert main(["plan", str(folder / "costs.toml"), "--input", str(folder / "drawn")]) == 0
    lines = capfd.readouterr().out.splitlines()
    (inverted,) = [line for line in lines if line.split()[:1] == ["invert"] and "forward" in line]
    assert " 4 forward" in inverted, "4 steps of one source"


def test_row_without_a_method_takes_the_default_choice(drawn):
    folder, rows = drawn
    mixed = [{**rows[0], "method": "strong"}, dict(rows[1])]
    for default, method in (("", "sdedit"), ("ddim", "ddim")):
        line = f'default_choice = "{default}"\n[stage.choices.sdedit]'
        stages = STAGE["choices"].replace("[stage.choices.sdedit]", line)
        ended = run(folder, f"default_{default}", STAGE["invert"] + stages, mixed)
        assert [row["method"] for row in ended] == ["sdedit", method]
        assert [row["error_code"] for row in ended] == [None, None]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ("strength = 0.2\n[stage.choices.sdedit]", "choices.x.strength"),
        ('method = "sdedit"\n[stage.choices.sdedit]', "choices.x.method"),
        ('default_choice = "sdedi"\n[stage.choices.sdedit]', "did you mean 'sdedit'"),
        ("[stage.choices.sdedit]\nstrenth = 1.0", "did you mean 'strength'"),
        ("[stage.choices.sdedit]\nbatch_size = 4", "choices.sdedit.batch_size"),
        ("settings = {}\n[stage.choices.sdedit]", "settings"),
        ("mask_dilat_px = 3\n[stage.choices.sdedit]", "did you mean 'mask_dilate_px'"),
        ("mask_grow_px = 3\n[stage.choices.sdedit]", "'mask_dilate_px'"),
        ('default_choice = ["ddim"]\n[stage.choices.sdedit]', "default_choice"),
        ('[stage.choices.sdedit]\ndefault_choice = "x"', "there are no choices"),
    ],
)
def test_wrong_choices_are_refused_in_one_sentence(change, wanted, drawn, capfd):
    folder, _ = drawn
    stages = STAGE["choices"].replace("[stage.choices.sdedit]", change)
    (folder / "wrong.toml").write_text('name = "x"\n' + STAGE["invert"] + stages)
    assert main(["plan", str(folder / "wrong.toml"), "--input", str(folder / "drawn")]) == 2
    error = capfd.readouterr().err
    assert wanted in error
    assert len(error.strip().splitlines()) == 1


def test_candidates_are_made_only_for_rows_whose_method_draws_noise(drawn):
    folder, rows = drawn
    mixed = [{**rows[0], "method": "sdedit"}, {**rows[1], "method": "ddim"}]
    stages = "[row]\ncandidates = 3\n" + STAGE["invert"] + STAGE["choices"]
    ended = run(folder, "candidates", stages, mixed)
    assert [row["method"] for row in ended] == ["sdedit"] * 3 + ["ddim"]
    assert len({row["edited_sha256"] for row in ended}) == 4


CHAIN = """
[[stage]]
operator = "edit"
name = "draft"
method = "sdedit"
checkpoint = "papercut"
num_inference_steps = 2
batch_size = 2
prefix = "{prefix}"
group = "all"
[[stage]]
operator = "edit"
name = "refine"
method = "{method}"
checkpoint = "papercut"
batch_size = 2
reads = {{ source_image = "{prefix}edited_image" }}
group = "all"
"""


def test_renamed_columns_of_a_chain_have_values_after_an_update(drawn):
    folder, rows = drawn
    run(folder, "chain", CHAIN.format(prefix="a_", method="sdedit"), rows[:2])
    stages = CHAIN.format(prefix="b_", method="sdedit")
    ended = run(folder, "chain", stages, rows[:2], "--update")
    assert [row["b_method"] for row in ended] == ["sdedit", "sdedit"]
    assert all(row["b_params_json"] for row in ended)


LAST = """
[[stage]]
operator = "negative"
writes = { edited_image = "last_image" }
group = "all"
[[stage]]
operator = "store"
reads = { edited_image = "last_image" }
group = "all"
"""
CAPTION = '[[stage]]\noperator = "caption"\ncheckpoint = "papercut"\n'
BY_CAPTION = 'reads = { in_method = "caption" }\n[stage.choices.sdedit]'


@pytest.mark.parametrize(
    ("stages", "wanted"),
    [
        (STAGE["invert"] + CHAIN.format(prefix="d_", method="ddim"), "by an inversion of"),
        (STAGE["sdedit"] + LAST, "editable mask of"),
        (
            CAPTION
            + STAGE["invert"]
            + STAGE["choices"].replace("[stage.choices.sdedit]", BY_CAPTION),
            "a choice is a column of the input",
        ),
    ],
)
def test_stages_that_do_not_belong_together_are_refused(stages, wanted, drawn, capfd):
    folder, _ = drawn
    (folder / "wrong.toml").write_text(f'name = "x"\n{stages}')
    assert main(["plan", str(folder / "wrong.toml"), "--input", str(folder / "drawn")]) == 2
    assert wanted in capfd.readouterr().err


def test_two_columns_of_one_name_are_refused(drawn, capfd):
    folder, rows = drawn
    table = folder / "drawn/rows.jsonl"
    table.write_text(json.dumps({**rows[0], "method": "sdedit", "in_method": "ddim"}) + "\n")
    (folder / "two.toml").write_text('name = "x"\n' + STAGE["invert"] + STAGE["choices"])
    assert main(["plan", str(folder / "two.toml"), "--input", str(folder / "drawn")]) == 2
    assert "'in_method'" in capfd.readouterr().err


def test_a_row_is_inverted_only_where_its_method_needs_what_comes_of_it():
    """A fit that no row needs does not need an inversion."""
    fit = '[[stage]]\noperator = "fit"\ncheckpoint = "papercut"\ngroup = "all"\n'
    edit = STAGE["choices"].replace("[stage.choices.ddim]", "[stage.choices.null_text]")
    plan = plan_from_tables(tomllib.loads(STAGE["invert"] + fit + edit), "x")
    stages = {stage.name: place for place, stage in enumerate(plan.stages)}
    for method, needed in (("sdedit", False), ("null_text", True)):
        for name in ("invert", "fit"):
            later = plan.stages[stages[name] + 1 :]
            stage = plan.stages[stages[name]]
            assert stage.is_needed(later, {"in_method": method}) == needed


TWO = """
[[stage]]
operator = "negative"
name = "first"
prefix = "{first}"
group = "all"
[[stage]]
operator = "edit"
name = "draft"
method = "sdedit"
checkpoint = "papercut"
num_inference_steps = 2
strength = 0.5
batch_size = 2
prefix = "{draft}"
reads = {{ source_image = "{first}edited_image" }}
group = "all"
[[stage]]
operator = "edit"
name = "last"
method = "sdedit"
checkpoint = "papercut"
num_inference_steps = 2
batch_size = 2
prefix = "{last}"
reads = {{ source_image = "{draft}edited_image" }}
group = "all"
"""


def test_names_that_two_edits_swap_are_not_taken_for_each_other_in_an_update(drawn):
    folder, rows = drawn
    run(folder, "swapped", TWO.format(first="n_", draft="a_", last="b_"), rows[:2])
    stages = TWO.format(first="n_", draft="b_", last="a_")
    ended = run(folder, "swapped", stages, rows[:2], "--update")
    assert [json.loads(row["b_params_json"])["strength"] for row in ended] == [0.5, 0.5]
    assert [json.loads(row["a_params_json"])["strength"] for row in ended] == [0.7, 0.7]


def test_row_whose_edited_image_has_another_name_is_replayed(drawn):
    folder, rows = drawn
    stages = TWO.format(first="n_", draft="a_", last="b_")
    (row,) = run(folder, "renamed", stages, rows[:1])
    assert main(["replay", str(folder / "renamed"), row["key"]]) == 0


def test_candidates_draw_settings_by_their_seed_and_keep_them_in_any_company(drawn):
    folder, rows = drawn
    vary = STAGE["sdedit"] + "vary = { strength = [0.3, 0.6, 0.9] }\n"
    many = "[row]\ncandidates = 6\n" + vary
    ended = run(folder, "varied", many, rows[:2])
    drawn_values = {row["key"]: json.loads(row["params_json"])["strength"] for row in ended}
    assert len(ended) == 12
    assert set(drawn_values.values()) == {0.3, 0.6, 0.9}
    alone = run(folder, "varied_alone", many, rows[1:2])
    by_key = {row["key"]: row for row in ended}
    for row in alone:
        assert row["edited_sha256"] == by_key[row["key"]]["edited_sha256"]
        assert json.loads(row["params_json"])["strength"] == drawn_values[row["key"]]


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ("{ strenth = [0.3] }", "vary: unknown field 'strenth': did you mean 'strength'"),
        ("{ strength = [0.3, 7] }", "vary: strength = 7"),
        ("{ strength = [] }", "vary.strength: give at least one value"),
    ],
)
def test_wrong_values_to_draw_from_are_refused_before_anything_is_started(vary, message, drawn):
    text = f'name = "x"\n{STAGE["sdedit"]}vary = {vary}\n'
    with pytest.raises(UsageError, match=re.escape(message)):
        plan_from_tables(tomllib.loads(text), "x.toml")
