"""`propose`: templates that agree with what `instruct` reads, and models whose JSON is read."""

import json

import pytest
from moody_endpoint import MoodyServer, says, words_of
from overpaint.jobs.papercut.edits import sample_edit
from overpaint.operators.measures.caption_things import named_things
from overpaint.operators.measures.draws import Draws
from overpaint.operators.measures.instructions import read_instruction
from overpaint.operators.measures.proposals import read_proposal
from overpaint.operators.propose import Propose
from overpaint.operators.proposers import PROPOSERS
from overpaint.pipeline.edit_types import EDIT_TYPES
from overpaint.pipeline.operator import Rejected
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.stage import Stage
from pydantic import ValidationError
from running import failure_code, outcomes

CAPTION = "a big red star in the top left and a small striped blue cat on a mint background"
TOLD = {
    "edit_type": "color",
    "instruction": "make the star blue",
    "target_prompt": "a blue star",
    "mask_phrase": "star",
    "inverse_instruction": "make the star red",
    "rephrasings": ["paint the star blue", "make the star blue", "recolor the star to blue"],
}


def rows(caption=CAPTION, num=1, **more):
    return [
        {"seed": 1000 + 7 * i, "group_id": f"{i:016x}", "source_prompt": caption, **more}
        for i in range(num)
    ]


def proposed(caption=CAPTION, num=1, given=None, **fields):
    return outcomes(Propose(**fields), rows(caption, num, **(given or {})))


def test_proposers_are_found_by_themselves():
    assert PROPOSERS.names() == ["endpoint", "model", "templates"]


@pytest.mark.parametrize("kind", EDIT_TYPES)
def test_every_type_is_written_and_read_back_the_same(kind):
    caption = "a happy standing man in the top left seen from the front on a mint background"
    found = [
        each
        for each in proposed(caption, 12, edit_types=[kind], on_nothing="null")
        if each["propose_status"] == "ok"
    ]
    assert len(found) >= 8
    for each in found:
        texts = [each["instruction"], *(each["instruction_variants"] or [])]
        assert len(set(texts)) == len(texts)
        assert {read_instruction(text).edit_type for text in texts} == {kind}
        assert each["edit_type"] == kind
        assert each["target_prompt"] not in (None, caption)
        assert each["proposed_instruction"] == each["instruction"]
    assert len({each["instruction"] for each in found}) > 1


@pytest.mark.parametrize(
    ("kind", "inverse_kind"), [("add", "remove"), ("replace", "replace"), ("resize", "resize")]
)
def test_inverse_takes_the_edit_back(kind, inverse_kind):
    for each in proposed(num=8, edit_types=[kind]):
        inverse = read_instruction(each["inverse_instruction"])
        request = read_instruction(each["instruction"])
        assert inverse.edit_type == inverse_kind
        if kind == "replace":
            assert request.new.endswith(inverse.thing)
            assert inverse.new.endswith(request.thing)


def test_inverse_of_a_colour_is_the_old_one_where_the_caption_says_it():
    (found,) = proposed("a red star", edit_types=["color"])
    new = read_instruction(found["instruction"]).new
    assert found["inverse_instruction"] == f"make the {new} star red"
    (unknown,) = proposed("a star", edit_types=["color"])
    assert unknown["inverse_instruction"] is None


def test_papercuts_captions_are_understood():
    kinds = set()
    for number in range(24):
        edit = sample_edit(number, EDIT_TYPES[number % 12], "train")
        (found,) = proposed(edit.source_prompt, given={"seed": number})
        assert found["propose_status"] == "ok", edit.source_prompt
        kinds.add(found["edit_type"])
    assert len(kinds) >= 6


def test_things_of_a_caption():
    things = named_things(
        "A photo of a small red cat and two dogs, a man riding a horse on a beach."
    )
    assert [thing.words for thing in things] == ["small red cat", "dogs", "man", "horse"]
    star, cat = named_things(CAPTION)
    assert (star.words, star.place) == ("big red star", "in the top left")
    assert (cat.words, cat.noun, cat.place) == ("small striped blue cat", "cat", None)


def test_choice_follows_from_the_seed_and_nothing_else():
    many = proposed(num=6)
    assert many == [outcomes(Propose(), [row])[0] for row in rows(num=6)]
    assert len({each["instruction"] for each in many}) > 2


def test_candidates_of_a_source_can_share_an_instruction():
    candidates = [{**row, "group_id": "00000000000000aa"} for row in rows(num=4)]
    own = {each["instruction"] for each in outcomes(Propose(), candidates)}
    shared = {each["instruction"] for each in outcomes(Propose(same_for="source"), candidates)}
    assert len(own) > 1
    assert len(shared) == 1


def test_users_words_are_kept_and_completed():
    given = {"in_instruction": "make the star green", "in_edit_type": None}
    (found,) = proposed(given=given)
    assert found["instruction"] == "make the star green"
    assert found["edit_type"] == "color"
    assert "green star" in found["target_prompt"]
    assert found["mask_phrase"] == "star"
    given["in_target_prompt"] = "a green star, as I say"
    assert proposed(given=given)[0]["target_prompt"] == "a green star, as I say"


def test_type_that_the_row_asks_for_is_proposed():
    found = proposed(num=6, given={"in_edit_type": "remove"})
    assert {each["edit_type"] for each in found} == {"remove"}


def test_own_words_replace_the_lists():
    words = {"things": ["dragon"], "places": ["in the bottom right"]}
    (found,) = proposed(edit_types=["add"], words=words)
    assert "a dragon in the bottom right" in found["instruction"]
    with pytest.raises(ValidationError, match="words has 'thing'"):
        Propose(words={"thing": ["x"]})


@pytest.mark.parametrize("caption", [None, "", "the sky"])
def test_source_without_things_is_rejected_or_null(caption):
    (found,) = proposed(caption, edit_types=["remove"])
    assert isinstance(found, Rejected)
    assert found.code == "nothing_proposed"
    (null,) = proposed(caption, edit_types=["remove"], on_nothing="null")
    assert (null["instruction"], null["propose_status"]) == (None, "nothing")
    assert null["propose_note"]


def test_draws_are_the_same_on_every_machine():
    draws = Draws(7)
    assert [draws.number(str(i), 100) for i in range(6)] == [
        Draws(7).number(str(i), 100) for i in range(6)
    ]
    assert draws.number("colour", 1000) == 901
    assert sorted(draws.shuffled("x", "abcde")) == list("abcde")


# ---- models


@pytest.mark.parametrize(
    "change",
    [
        {"edit_type": "colour"},
        {"instruction": ""},
        {"instruction": None},
        {"target_prompt": 5},
        {"rephrasings": "none"},
        {"more": 1},
    ],
)
def test_answer_that_is_not_of_the_schema_is_no_proposal(change):
    assert read_proposal(json.dumps({**TOLD, **change}), 2) is None
    lacking = {name: value for name, value in TOLD.items() if name not in change}
    assert read_proposal(json.dumps(lacking) if "more" not in change else "{}", 2) is None


def test_answer_of_the_schema_is_read():
    found = read_proposal(f"Sure.\n{json.dumps(TOLD)}", 1)
    assert found.instruction == "make the star blue"
    assert found.variants == ("paint the star blue",)


@pytest.fixture
def serve():
    servers = []

    def start(act):
        servers.append(MoodyServer(act))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def hosted(server, **fields):
    given = {"request": {"model": "m", "temperature": 0.7}, "batch_size": 8, **fields}
    return Propose(method="endpoint", endpoint=server.url, sees_source=False, **given)


def test_hosted_model_is_asked_with_the_rows_seed_and_a_type(serve):
    server = serve(lambda *_: says(json.dumps(TOLD)))
    found = outcomes(hosted(server, edit_types=["style"], style="Speak like FLUX."), rows(num=2))
    assert [each["instruction"] for each in found] == ["make the star blue"] * 2
    assert found[0]["instruction_variants"] == ["paint the star blue", "recolor the star to blue"]
    assert {asked["seed"] for asked in server.asked} == {1000, 1007}
    words = words_of(server.asked[0])
    for part in (CAPTION, "of the type style", "Speak like FLUX.", "add, remove, replace"):
        assert part in words
    assert "{" not in words.replace('{"edit_type"', "")


def test_hosted_model_sees_the_source(serve, noise):
    server = serve(lambda *_: says(json.dumps(TOLD)))
    operator = hosted(server).model_copy()
    operator = Propose(method="endpoint", endpoint=server.url, request={"model": "m"}, batch_size=1)
    outcomes(operator, rows(source_image=noise(1)))
    first, _ = server.asked[0]["messages"][0]["content"]
    assert first["type"] == "image_url"


@pytest.mark.parametrize("rewrite", [False, True])
def test_rewritten_words_stand_beside_the_users(serve, rewrite):
    server = serve(lambda *_: says(json.dumps(TOLD)))
    given = rows(in_instruction="star -> blue {caption}")
    (found,) = outcomes(hosted(server, rewrite=rewrite), given)
    expected = "make the star blue" if rewrite else "star -> blue {caption}"
    assert found["instruction"] == expected
    assert found["proposed_instruction"] == "make the star blue"
    assert 'asked for this edit: "star -> blue {caption}"' in words_of(server.asked[0])


def test_hosted_model_is_asked_once_more_for_json(serve):
    server = serve(lambda number, _: says("Hm." if number == 1 else json.dumps(TOLD)))
    (found,) = outcomes(hosted(server), rows())
    assert found["propose_status"] == "ok"
    assert [turn["role"] for turn in server.asked[1]["messages"]] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("text", "status"),
    [("Hm.", "parse_error"), ("I'm sorry, I can't help with that.", "refused")],
)
def test_hosted_model_that_proposes_nothing_leaves_nulls_and_a_status(serve, text, status):
    server = serve(lambda *_: says(text))
    (found,) = outcomes(hosted(server, on_nothing="null"), rows())
    assert (found["propose_status"], found["instruction"]) == (status, None)
    (rejected,) = outcomes(hosted(server), rows())
    assert rejected.code == "nothing_proposed"


def test_language_model_here_that_babbles_is_a_parse_error(language_model):
    operator = Propose(
        method="model",
        checkpoint=language_model,
        sees_source=False,
        batch_size=2,
        max_prompt_tokens=600,
        max_new_tokens=4,
        on_nothing="null",
    )
    found = outcomes(operator, rows(num=2))
    assert [each["propose_status"] for each in found] == ["parse_error"] * 2
    assert found == [outcomes(operator, [row])[0] for row in rows(num=2)]
    short = Propose(
        method="model", checkpoint=language_model, sees_source=False, max_prompt_tokens=20
    )
    assert failure_code(short, rows()[0]) == "proposal_too_long"


def test_plan_keeps_the_users_instruction_in_its_own_column():
    plan = Plan(name="p", stages=(Stage(operator=Propose()),))
    names = plan.planned_column_names(["source_uri", "instruction", "source_prompt"])
    assert names == {"instruction": "in_instruction", "source_prompt": "source_prompt"}
