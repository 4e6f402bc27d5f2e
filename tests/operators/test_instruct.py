"""`instruct` by rules: what people write, what the caption becomes, and what stays unknown."""

import pytest
from overpaint.jobs.bench.instruct import measure_instruct, names_item
from overpaint.operators.instruct import Instruct
from overpaint.operators.measures.caption_edits import inject
from overpaint.operators.measures.instructions import read_instruction
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.stage import Stage
from running import failure_code, outcomes

FREE = [
    # instruction, edit type, thing, new
    ("make the dog a cat", "replace", "dog", "a cat"),
    ("Turn the sky into a sunset!", "background", "sky", "a sunset"),
    ("add sunglasses to the man", "add", "man", "sunglasses"),
    ("remove the car on the left", "remove", "car on the left", None),
    ("change the colour of the shirt to red", "color", "shirt", "red"),
    ("make it winter", "style", None, "winter"),
    ("Could you please remove the dog from the picture?", "remove", "dog", None),
    ("put a hat on the dog", "add", "dog", "a hat"),
    ("put the dog on a beach", "background", "background", "a beach"),
    ("put the dog in the top left", "move", "dog", None),
    ("make the red car a blue car", "color", "red car", "blue"),
    ("change the car's color to dark blue", "color", "car", "dark blue"),
    ("make the man on the left happy", "expression", "man on the left", "happy"),
    ("let the horse run", "pose", "horse", "run"),
    ("make the walls of the house blue", "color", "walls of the house", "blue"),
    ("make the big lamp a bit brighter", "color", "big lamp", "a bit brighter"),
    ("Add a blue sofa in the center of the room", "add", "room", "a blue sofa"),
    ("turn the photo into a van gogh painting", "style", None, "a van gogh painting"),
    ("make the photo black and white", "style", None, "black and white"),
    ("change the weather to rainy", "style", None, "rainy"),
    ("make the house bigger", "resize", "house", "bigger"),
    ("rotate the car to show its back", "viewpoint", "car", "back"),
    ("swap the old wooden chair for a throne", "replace", "old wooden chair", "a throne"),
    ("make the table wooden", "texture", "table", "wooden"),
    ("make the dog wear a scarf", "add", "dog", "a scarf"),
    ("turn the bread into a stone", "replace", "bread", "a stone"),
]


@pytest.mark.parametrize(("instruction", "edit_type", "thing", "new"), FREE)
def test_instructions_that_people_write_are_read(instruction, edit_type, thing, new):
    request = read_instruction(instruction)
    assert (request.edit_type, request.thing, request.new) == (edit_type, thing, new)
    assert request.note is None


@pytest.mark.parametrize(
    ("instruction", "note"),
    [
        ("what is this", "no rule reads"),
        ("a red star", "no rule reads"),
        ("remove the dog and add a cat", "more than one edit"),
        ("make the man look old", "no rule tells the type of 'old'"),
        ("make the room futuristic", "no rule tells the type of 'futuristic'"),
        ("make it red", "'it' names no thing"),
        ("give him a beard", "'him' names no thing"),
        ("change the color to red", "nothing says of what"),
    ],
)
def test_what_no_rule_reads_is_said(instruction, note):
    assert note in read_instruction(instruction).note


def read(instruction, **row):
    (answer,) = outcomes(Instruct(), [{"instruction": instruction, **row}])
    return answer


@pytest.mark.parametrize(
    ("caption", "instruction", "target"),
    [
        ("a man with a dog on a beach", "make the dog a cat", "a man with a cat on a beach"),
        ("a man in a blue shirt", "change the colour of the shirt to red", "a man in a red shirt"),
        ("a man on a beach", "add sunglasses to the man", "a man with sunglasses on a beach"),
        ("a sad man on a beach", "make the man smile", "a smiling man on a beach"),
        ("a cat and a dog on a street", "remove the cat", "a dog on a street"),
        ("a man with a dog on a beach", "remove the dog", "a man on a beach"),
        ("a cat on a beach", "change the background to a forest", "a cat in a forest"),
        ("a cat on a beach", "make it winter", "a cat on a beach in winter"),
        ("a photo of a cat", "turn it into a pencil sketch", "a pencil sketch of a cat"),
        ("an old chair", "make the chair bigger", "a large old chair"),
        ("a red star on the left", "move the star to the top right", "a red star in the top right"),
        ("a red cat and a red dog", "make the dog blue", "a red cat and a blue dog"),
        ("a big red dog", "replace the dog with a car", "a big car"),
    ],
)
def test_caption_is_changed_where_the_edit_is_and_nowhere_else(caption, instruction, target):
    answer = read(instruction, caption=caption)
    assert (answer["source_prompt"], answer["target_prompt"]) == (caption, target)
    assert (answer["instruct_status"], answer["instruct_note"]) == ("ok", None)


def test_without_a_caption_prompts_are_of_the_thing_alone():
    answer = read("make the dog a cat")
    assert (answer["source_prompt"], answer["target_prompt"]) == ("a dog", "a cat")
    assert (answer["source_class"], answer["target_class"]) == ("dog", "cat")
    assert [(x["prompt"], x["reverse"]) for x in answer["edit_concepts"]] == [
        ("cat", False),
        ("dog", True),
    ]


def test_concepts_of_a_colour_are_whole_noun_phrases():
    answer = read("make the butterfly teal", caption="a yellow butterfly on grass")
    assert [x["prompt"] for x in answer["edit_concepts"]] == ["teal butterfly", "yellow butterfly"]


def test_what_is_not_known_is_null_and_has_a_status():
    answer = read("do something nice", caption="a cat")
    assert answer["instruct_status"] == "unknown"
    assert answer["source_prompt"] == "a cat"
    empty = ("edit_type", "target_prompt", "mask_phrase", "source_class", "edit_concepts")
    assert [answer[name] for name in empty] == [None] * 5
    unnamed = read("make the dog a cat", caption="a puppy")
    assert (unnamed["instruct_status"], unnamed["target_prompt"]) == ("partial", None)
    assert (unnamed["edit_type"], unnamed["mask_phrase"]) == ("replace", "dog")
    missing = read(" ", in_target_prompt="a cat")
    assert (missing["instruct_status"], missing["target_prompt"]) == ("missing", "a cat")


def test_what_the_input_gives_stays_unless_told_otherwise():
    row = {"instruction": "make the dog a cat", "in_source_prompt": "my dog", "caption": "a pet"}
    given = {"in_target_prompt": "my tiger", "in_edit_type": "texture", "in_mask_phrase": "pet"}
    (kept,) = outcomes(Instruct(), [{**row, **given}])
    names = ("source_prompt", "target_prompt", "edit_type", "mask_phrase")
    assert [kept[name] for name in names] == ["my dog", "my tiger", "texture", "pet"]
    anew = Instruct(keep_given=False)
    (read_anew,) = outcomes(anew, [{**row, **given}])
    assert [read_anew[name] for name in names] == ["my dog", "a cat", "replace", "dog"]
    assert {"in_target_prompt", "in_edit_type"}.isdisjoint(column.name for column in anew.optional)


def test_unknown_instruction_fails_where_the_recipe_says_so():
    strict = Instruct(on_unknown="fail")
    assert failure_code(strict, {"instruction": "do something"}) == "instruction_unknown"
    assert failure_code(strict, {"instruction": None}) == "instruction_unknown"
    (good,) = outcomes(strict, [{"instruction": "make the dog a cat"}])
    assert good["instruct_status"] == "ok"


def test_plan_reads_the_input_and_gives_prompts_to_the_stages_after():
    plan = Plan(name="one", stages=(Stage(operator=Instruct()),))
    names = plan.planned_column_names(["instruction", "source_prompt", "edit_type", "mood"])
    assert names["source_prompt"] == "in_source_prompt"
    assert names["edit_type"] == "in_edit_type"
    assert {"instruction", "source_prompt", "target_prompt"} <= plan.input_column_names()


def test_target_words_are_injected_for_a_noun_or_appended():
    assert inject("a red star on grass", "circle") == "a red circle on grass"
    assert inject("a star and an apple", "pear", noun="apple") == "a star and a pear"
    assert inject("grass", "pear", noun="apple") == "grass, pear"
    assert inject("a red star on grass", "a blue owl") == "a blue owl on grass"


def test_phrase_names_an_item_by_its_noun_and_no_wrong_adjective():
    assert names_item("star", "red star")
    assert names_item(None, "")
    assert not names_item("blue star", "red star")
    assert not names_item("red circle", "red star")
    assert not names_item(None, "red star")
    assert not names_item("star", "")


def test_unseen_papercut_instructions_are_read_rightly():
    figures = measure_instruct(8)
    assert {row["type"]: row["both"] for row in figures if row["both"] < 0.95} == {}
    assert figures[-1]["instructions"] > 200
