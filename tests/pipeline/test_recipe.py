import pytest
from overpaint.operators.fetch import Fetch
from overpaint.operators.store import Store
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.placement import Placement
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.recipes.recipe import (
    apply_settings,
    plan_from_tables,
    read_toml,
    recipe_of,
)
from overpaint.pipeline.stage import Stage
from toy_operators import ToyEdit, ToyScore

GOOD = """
name = "recolor"
description = "paints"
[row]
instruction = "make it blue"
candidates = 2
[[stage]]
operator = "fetch"
name = "fetch"
group = "cpu"
[[stage]]
operator = "toy_operators:ToyInvert"
name = "invert"
group = "gpu"
[[stage]]
operator = "toy_operators:ToyEdit"
name = "edit"
strength = 0.25
group = "gpu"
[[stage]]
operator = "store"
name = "store"
group = "gpu"
[[stage]]
operator = "toy_operators:ToyScore"
name = "score"
[stage.placement]
num_cpus = 2
[group.gpu]
num_gpus = 0.5
actors = [1, 8]
[policy]
brightness = { min = 0.1, max = 0.9 }
[budget]
max_failed_share = 0.1
[limits]
task_rows = 16
[output]
format = "webp"
"""


def planned(text, *settings):
    tables = read_toml(text, "recolor.toml")
    return plan_from_tables(apply_settings(tables, settings, "recolor.toml"), "recolor.toml")


def complaint(text, *settings):
    with pytest.raises(UsageError) as caught:
        planned(text, *settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_recipe_becomes_the_plan_that_python_makes():
    from toy_operators import ToyInvert

    stages = [
        Stage(operator=Fetch(), name="fetch", group="cpu"),
        Stage(operator=ToyInvert(), name="invert", group="gpu"),
        Stage(operator=ToyEdit(strength=0.25), name="edit", group="gpu"),
        Stage(operator=Store(), name="store", group="gpu"),
        Stage(operator=ToyScore(), name="score"),
    ]
    assert planned(GOOD) == Plan(
        name="recolor",
        stages=stages,
        row={"instruction": "make it blue", "candidates": 2},
        groups={"gpu": Placement(num_gpus=0.5, actors=(1, 8)), "score": Placement(num_cpus=2)},
        policy={"brightness": {"min": 0.1, "max": 0.9}},
        budget={"max_failed_share": 0.1},
        image_format="webp",
        task_rows=16,
    )


def test_recipe_of_a_plan_reads_back_as_the_same_plan():
    plan = planned(GOOD)
    again = plan_from_tables(recipe_of(plan), "recipe.json")
    assert recipe_of(again) == recipe_of(plan)
    assert again.fingerprints() == plan.fingerprints()


def test_recipe_without_fetch_and_store_gets_them():
    text = """
    name = "short"
    [[stage]]
    operator = "toy_operators:ToyEdit"
    name = "edit"
    [[stage]]
    operator = "toy_operators:ToyScore"
    name = "score"
    """
    plan = planned(text)
    assert [stage.name for stage in plan.stages] == ["fetch", "edit", "store", "score"]
    assert plan.group_names == ("edit", "score")
    assert [stage.name for stage in plan.stages_of("edit")] == ["fetch", "edit", "store"]


WRONG = {
    "unknown operator": (
        ("toy_operators:ToyEdit", "toy_operators:ToyEdti"),
        ["stage 3", "toy_operators:ToyEdti", "did you mean 'ToyEdit'?"],
    ),
    "unknown shipped operator": (
        ('"toy_operators:ToyEdit"', '"edti"'),
        ["stage 3", "unknown operator 'edti'", "did you mean 'edit'?"],
    ),
    "unknown module": (
        ("toy_operators:ToyEdit", "toy_operatorz:ToyEdit"),
        ["stage 3", "toy_operatorz:ToyEdit", "cannot import 'toy_operatorz'"],
    ),
    "no operator": (('operator = "toy_operators:ToyEdit"\n', ""), ["stage 3", "operator"]),
    "unknown field": (
        ("strength = ", "strenght = "),
        ["stage 3", "'edit'", "unknown field 'strenght'", "did you mean 'strength'?"],
    ),
    "wrong type": (
        ("strength = 0.25", 'strength = "much"'),
        ["stage 3", "'edit'", "strength = 'much'", "number"],
    ),
    "out of range": (
        ("strength = 0.25", "strength = 1.5"),
        ["stage 3", "'edit'", "strength = 1.5", "less than or equal to 1"],
    ),
    "unknown table": (("[policy]", "[polcy]"), ["unknown key 'polcy'", "did you mean 'policy'?"]),
    "stage is one table": (("[[stage]]", "[stage]"), ["[[stage]]"]),
    "stage name is a number": (('name = "edit"', "name = 7"), ["stage 3", "name = 7"]),
    "two stages of one name": (('name = "store"', 'name = "edit"'), ["two stages", "'edit'"]),
    "two stages write one column": (
        ("toy_operators:ToyInvert", "toy_operators:ToyScore"),
        ["'invert'", "'score'", "'brightness'", "both write"],
    ),
    "two stages fetch": (
        ("toy_operators:ToyScore", "fetch"),
        ["'fetch'", "'score'", "both fetch"],
    ),
    "a group is split": (
        ('group = "cpu"', 'group = "gpu"\n[[stage]]\noperator = "toy_operators:ToyCaption"'),
        ["group 'gpu' is split"],
    ),
    "a live object would cross groups": (
        ('name = "invert"\ngroup = "gpu"', 'name = "invert"\ngroup = "cpu"'),
        ["stage 'edit'", "'inverted_path'", "group 'cpu'"],
    ),
    "a group without stages": (
        ("[group.gpu]", "[group.gpuu]"),
        ["no stage is in group 'gpuu'", "did you mean 'gpu'?"],
    ),
    "a placement inside a group": (
        ('name = "store"\n', 'name = "store"\nplacement = { num_cpus = 2 }\n'),
        ["stage 'store'", "[group.gpu]"],
    ),
    "unknown placement field": (
        ("num_gpus = 0.5", "num_gpu = 0.5"),
        ["group 'gpu'", "unknown field 'num_gpu'", "did you mean 'num_gpus'?"],
    ),
    "placement out of range": (("num_gpus = 0.5", "num_gpus = -1"), ["num_gpus = -1", "'gpu'"]),
    "unknown kind of accelerator": (
        ("num_gpus = 0.5", 'num_gpus = 0.5\naccelerator_type = "L40"'),
        ["group 'gpu'", "accelerator_type = 'L40'", "did you mean 'L40S'?"],
    ),
    "an accelerator and no GPU": (
        ("num_gpus = 0.5", 'accelerator_type = "L4"'),
        ["group 'gpu'", "accelerator_type = 'L4' and num_gpus = 0"],
    ),
    "unknown market": (
        ("num_gpus = 0.5", 'market_type = "cheap"'),
        ["group 'gpu'", "market_type = 'cheap'", "'spot' or 'on-demand'"],
    ),
    "actors the wrong way round": (("[1, 8]", "[8, 1]"), ["group 'gpu'", "actors = [8, 1]"]),
    "a score that nobody writes": (
        ("brightness = {", "brightnes = {"),
        ["policy", "'brightnes'", "did you mean 'brightness'?"],
    ),
    "a policy on text": (
        ("brightness = {", "edited_uri = {"),
        ["policy", "'edited_uri'", "brightness"],
    ),
    "an unknown bound": (
        ("{ min = 0.1, max", "{ minn = 0.1, max"),
        ["[policy]", "'brightness.minn'", "did you mean 'min'?"],
    ),
    "a bound that accepts nothing": (("min = 0.1", "min = 0.95"), ["[policy]", "0.95", "0.9"]),
    "a budget out of range": (
        ("max_failed_share = 0.1", "max_failed_share = 10"),
        ["[budget]", "max_failed_share = 10"],
    ),
    "unknown output format": (('format = "webp"', 'format = "tiff"'), ["'tiff'", "'png'"]),
    "unknown way of keeping pictures": (
        ('format = "webp"', 'images = "shard"'),
        ["images = 'shard'", "'objects' or 'shards'"],
    ),
    "unknown output key": (
        ('format = "webp"', 'formt = "webp"'),
        ["[output]", "'formt'", "did you mean 'format'?"],
    ),
    "policy is no table": (
        ("[policy]\nbrightness = { min = 0.1, max = 0.9 }", ""),
        ["policy is 3", "[policy]"],
    ),
    "name is a number": (('name = "recolor"', "name = 7"), ["name = 7"]),
    "candidates out of range": (("candidates = 2", "candidates = 0"), ["row.candidates = 0"]),
    "edits of a wrong form": (
        ("candidates = 2", "edits = [1]"),
        ["row.edits = [1]", "list of tables"],
    ),
    "not TOML": (("[row]", "[row"), ["not TOML", "line"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_recipe_wrong_is_one_sentence_with_file_stage_field_and_near_miss(case):
    (old, new), wanted = WRONG[case]
    assert old in GOOD
    text = GOOD.replace(old, new)
    if case == "stage is one table":
        text = 'name = "one"\n[stage]\noperator = "edit"'
    if case == "policy is no table":
        text = text.replace('name = "recolor"', 'name = "recolor"\npolicy = 3')
    message = complaint(text)
    assert message.startswith("recolor.toml: ")
    for words in wanted:
        assert words in message, message


def test_recipe_without_stages_says_so():
    assert "at least one stage" in complaint('name = "empty"')


def test_settings_change_fields_and_rows():
    plan = planned(GOOD, "edit.strength=0.75", "row.instruction=make it red", "row.candidates=3")
    assert plan.stages[2].operator == ToyEdit(strength=0.75)
    assert plan.row == {"instruction": "make it red", "candidates": 3}


def test_settings_reach_a_stage_by_its_default_name():
    text = GOOD.replace('name = "edit"\n', "")
    plan = planned(text, "ToyEdit.strength=0.75")
    assert plan.stages[2].operator == ToyEdit(strength=0.75)


WITHOUT_FETCH = """
[[stage]]
operator = "toy_operators:ToyEdit"
name = "edit"
[[stage]]
operator = "toy_operators:ToyScore"
"""


def test_settings_reach_the_stages_that_a_plan_adds():
    plain = planned(WITHOUT_FETCH)
    plan = planned(WITHOUT_FETCH, "fetch.allow_local_files=true", "store.batch_size=3")
    assert [stage.name for stage in plan.stages] == [stage.name for stage in plain.stages]
    assert plan.stages[0].operator == Fetch(allow_local_files=True)
    assert plan.stages[2].operator == Store(batch_size=3)
    assert plan.fingerprint() == plain.fingerprint()


def test_settings_of_an_added_stage_leave_it_what_other_stages_need():
    text = '[[stage]]\noperator = "edit"\nmethod = "sdedit"\n'
    settings = ["fetch.allow_http=true", "edit.method=inpaint"]
    fetch = planned(text, *settings).stages[0].operator
    assert (fetch.conditions, fetch.allow_http) == (("mask",), True)


def test_settings_of_a_stage_that_is_not_added_are_refused():
    text = WITHOUT_FETCH.replace('"toy_operators:ToyScore"', '"fetch"\nname = "read"')
    assert "no stage 'fetch'" in complaint(text, "fetch.allow_http=true")


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("fetch.alow_http=1", "unknown field 'alow_http'"),
        ("fetsh.allow_http=1", "did you mean 'fetch'?"),
        ("edt.strength=1", "did you mean 'edit'?"),
        ("strength", "write stage.field=value"),
        ("edit.strenght=1", "did you mean 'strength'?"),
        ("edit.strength=lots", "strength = 'lots'"),
    ],
)
def test_settings_wrong_are_named(setting, wanted):
    assert wanted in complaint(GOOD, setting)


def test_plan_column_that_nobody_writes_is_named_with_the_nearest():
    plan = planned(GOOD.replace('instruction = "make it blue"\n', ""))
    message = r"stage 'edit' reads column 'instruction'.*did you mean 'instructions'\?"
    with pytest.raises(UsageError, match=message):
        plan.check_input(["source_uri", "instructions"])
    plan.check_input(["source_uri", "instruction"])


def test_plan_column_that_nobody_gives_is_told_the_ways_to_give_it():
    plan = planned(GOOD.replace('instruction = "make it blue"\n', ""))
    with pytest.raises(UsageError) as caught:
        plan.check_input(["source_uri", "note", "id"])
    for words in ("--set row.instruction=...", "--map NAME=instruction", "which has note, id"):
        assert words in str(caught.value)
    assert "base_uri" not in str(caught.value)
    with pytest.raises(UsageError, match="--map ' instruction=instruction' renames it"):
        plan.check_input(["source_uri", " instruction"])


def test_plan_column_of_a_later_stage_does_not_serve_an_earlier_one():
    stages = [
        Stage(operator=Fetch(), name="fetch"),
        Stage(operator=ToyScore(), name="score"),
        Stage(operator=ToyEdit(), name="edit"),
        Stage(operator=Store(), name="store"),
    ]
    plan = Plan(name="turned", stages=stages)
    with pytest.raises(UsageError, match="stage 'score' reads column 'edited_image'"):
        plan.check_input(["source_uri", "instruction"])
