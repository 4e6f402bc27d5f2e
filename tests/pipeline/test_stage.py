"""Stages that give columns other names: two judges, chains of edits, what counts in a key."""

import pytest
from overpaint.cluster.worker.in_process import run_local
from overpaint.operators.fetch import Fetch
from overpaint.operators.store import Store
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.recipes.recipe import plan_from_tables, read_toml, recipe_of
from overpaint.pipeline.runs.tasks import remaining
from overpaint.pipeline.stage import Stage
from pydantic import ValidationError
from toy_operators import (
    ToyBoxes,
    ToyCompare,
    ToyEdit,
    ToyInvert,
    ToyScore,
)
from toy_runs import finish, manifest_rows, planned_run, table_of, write_sources


def names(columns) -> list[str]:
    return [column.name for column in columns]


def test_columns_have_the_plans_names():
    stage = Stage(
        operator=ToyEdit(),
        reads={"source_image": "draft_image", "caption": "first_caption"},
        writes={"edited_image": "final_image"},
        prefix="unused_",
    )
    assert names(stage.inputs) == ["draft_image", "instruction", "seed", "first_caption"]
    assert names(stage.outputs) == ["final_image"]
    assert names(Stage(operator=ToyScore(), prefix="second_").outputs) == ["second_brightness"]
    assert stage.to_operator({"draft_image": b"x", "seed": 1})["source_image"] == b"x"
    assert stage.from_operator({"edited_image": b"y"}) == {"final_image": b"y"}


@pytest.mark.parametrize(
    ("operator", "names", "words"),
    [
        (ToyEdit(), {"reads": {"source_imge": "x"}}, ["'source_imge'", "'source_image'"]),
        (ToyScore(), {"writes": {"brightnes": "x"}}, ["'brightnes'", "'brightness'"]),
        (ToyScore(), {"prefix": "not a name"}, ["'not a name'"]),
        (ToyScore(), {"writes": {"brightness": "a b"}}, ["writes.brightness", "'a b'"]),
        (Store(), {"prefix": "my_"}, ["store"]),
        (Fetch(), {"writes": {"source_image": "x"}}, ["fetch"]),
    ],
)
def test_name_that_cannot_be_is_refused_with_the_nearest(operator, names, words):
    with pytest.raises(ValidationError) as raised:
        Stage(operator=operator, **names)
    for word in words:
        assert word in str(raised.value)


def plan_of(*stages: Stage, **fields) -> Plan:
    first = Stage(operator=Fetch(), name="fetch", group="all")
    return Plan(name="chain", stages=(first, *stages), task_rows=4, **fields)


def stage(operator, name="", **fields) -> Stage:
    return Stage(operator=operator, name=name or type(operator).__name__, group="all", **fields)


def ran(plan: Plan, tmp_path) -> list[dict]:
    """The manifest of a finished run of a plan over three sources."""
    sources = write_sources(tmp_path / "in", 3)
    rows = [{"source_uri": name, "instruction": f"do {name}", "more": "again"} for name in sources]
    run = planned_run(plan, table_of(rows, tmp_path / "in"), tmp_path / "run")
    for _ in run_local(run, remaining(run.folder, plan.task_rows).tasks):
        pass
    finish(run)
    return manifest_rows(run.folder)


JUDGED = (stage(ToyEdit(), "edit"), stage(ToyCompare(), "judge"))


def test_two_judges_write_beside_each_other_and_leave_the_key(tmp_path):
    second = stage(ToyCompare(scale=2.0), "second", prefix="second_")
    plan = plan_of(*JUDGED, second, policy={"second_difference": {"min": 0}})
    for row in ran(plan, tmp_path):
        assert row["status"] == "accepted"
        assert row["second_difference"] == pytest.approx(2 * row["difference"])
    assert plan.fingerprint() == plan_of(*JUDGED).fingerprint()
    renamed = plan_of(JUDGED[0], stage(ToyCompare(), "judge", writes={"difference": "change"}))
    assert renamed.fingerprint() == plan.fingerprint()
    assert renamed.fingerprints()["judge"] != plan.fingerprints()["judge"]


def test_two_stages_that_write_one_column_are_told_of_prefixes():
    with pytest.raises(ValidationError, match="prefix = 'second_'"):
        plan_of(*JUDGED, stage(ToyCompare(), "second"))


# The same chain: the columns between its stages have other names.
DRAFT_FIRST = (
    stage(ToyEdit(), "draft", prefix="draft_"),
    stage(ToyEdit(strength=0.25), "final", reads={"source_image": "draft_edited_image"}),
)
FINAL_LAST = (
    stage(ToyEdit(), "draft"),
    stage(
        ToyEdit(strength=0.25),
        "final",
        reads={"source_image": "edited_image"},
        writes={"edited_image": "final_image"},
    ),
)


def test_chain_of_edits_stores_what_the_last_one_made(tmp_path):
    rows = ran(plan_of(*DRAFT_FIRST), tmp_path / "a")
    again = ran(plan_of(*FINAL_LAST), tmp_path / "b")
    first_only = ran(plan_of(FINAL_LAST[0]), tmp_path / "c")
    assert {row["status"] for row in rows} == {"accepted"}
    assert [row["key"] for row in again] == [row["key"] for row in rows]
    assert [row["edited_sha256"] for row in again] == [row["edited_sha256"] for row in rows]
    assert not {row["key"] for row in first_only} & {row["key"] for row in rows}
    assert not {row["edited_sha256"] for row in first_only} & {row["edited_sha256"] for row in rows}


def test_chain_implies_one_fetch_and_one_store_after_the_last_edit():
    plan = Plan(name="chain", stages=FINAL_LAST)
    assert [stage.name for stage in plan.stages] == ["fetch", "draft", "final", "store"]
    assert plan.stages[-1].reads == {"edited_image": "final_image"}
    assert plan.stored_images()["final_image"] == "edited_uri"
    assert [stage.name for stage in plan.editing_stages()] == ["fetch", "draft", "final"]


def test_chain_across_groups_gives_the_same_bytes(tmp_path):
    together = ran(plan_of(*FINAL_LAST), tmp_path / "a")
    apart = [one.model_copy(update={"group": one.name}) for one in FINAL_LAST]
    rows = ran(plan_of(*apart), tmp_path / "b")
    assert [row["edited_sha256"] for row in rows] == [row["edited_sha256"] for row in together]


def test_key_covers_which_edit_is_stored_and_what_an_edit_reads():
    first = plan_of(*FINAL_LAST, stage(Store(), "store"))
    last = plan_of(*FINAL_LAST)
    assert first.fingerprint() != last.fingerprint()
    other = stage(ToyEdit(), "edit", reads={"instruction": "more"})
    assert plan_of(other).key_columns() == ("caption", "more")
    assert plan_of(other).fingerprint() != plan_of(stage(ToyEdit(), "edit")).fingerprint()


def test_names_between_stages_do_not_count_in_a_key():
    renamed = plan_of(stage(ToyEdit(), "edit", writes={"edited_image": "result"}))
    assert renamed.fingerprint() == plan_of(stage(ToyEdit(), "edit")).fingerprint()


def test_renamed_optional_column_has_to_be_there():
    plan = plan_of(stage(ToyEdit(), "edit", reads={"caption": "captoin"}))
    with pytest.raises(UsageError, match="did you mean 'caption'"):
        plan.check_input(["source_uri", "instruction", "caption"])


def test_column_is_not_taken_for_another_type():
    with pytest.raises(ValidationError, match="'source_image'"):
        plan_of(stage(ToyCompare(), "judge", reads={"instruction": "source_image"}))


def test_live_object_under_another_name_stays_in_its_actor():
    invert = stage(ToyInvert(), "invert", prefix="first_")
    edit = stage(ToyEdit(), "edit", reads={"inverted_path": "first_inverted_path"})
    plan_of(invert, edit)
    with pytest.raises(ValidationError, match="first_inverted_path"):
        plan_of(invert, edit.model_copy(update={"group": "other"}))


@pytest.mark.parametrize("name", ["seed", "status"])
def test_columns_of_the_runner_are_not_written(name):
    with pytest.raises(ValidationError, match="the runner sets"):
        plan_of(stage(ToyBoxes(), "boxes", writes={"mask_source": name}))


TEXT = """
name = "chain"
[[stage]]
operator = "toy_operators:ToyEdit"
name = "draft"
writes = { edited_image = "draft_image" }
[[stage]]
operator = "toy_operators:ToyEdit"
name = "final"
reads = { source_image = "draft_image" }
[[stage]]
operator = "toy_operators:ToyCompare"
name = "judge"
prefix = "draft_"
reads = { edited_image = "draft_image" }
"""


def test_recipe_names_columns_and_reads_back():
    plan = plan_from_tables(read_toml(TEXT, "chain.toml"), "chain.toml")
    assert plan.stages[-1].output_names == ("draft_difference",)
    again = plan_from_tables(recipe_of(plan), "recipe.json")
    assert recipe_of(again) == recipe_of(plan)
    assert again.fingerprints() == plan.fingerprints()
    assert again.fingerprint() == plan.fingerprint()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("reads = { source_image =", "reads = { source_imge =", ["stage 2", "'source_image'"]),
        ('prefix = "draft_"', "prefix = 3", ["stage 3", "prefix = 3"]),
        ('writes = { edited_image = "draft_image" }', 'writes = "x"', ["stage 1", "writes = 'x'"]),
    ],
)
def test_recipe_with_a_wrong_name_names_the_stage(old, new, words):
    with pytest.raises(UsageError) as raised:
        plan_from_tables(read_toml(TEXT.replace(old, new), "chain.toml"), "chain.toml")
    for word in words:
        assert word in str(raised.value)
