"""`instruct` by models: JSON of one schema, or a status; and words that are injected by CLIP."""

import json

import pytest
from hosted_model import Server, said
from overpaint.operators.instruct import Instruct
from overpaint.operators.instructors.inject import caption_words
from overpaint.operators.measures.readings import read_reply
from overpaint.operators.models.weights import PAPERCUT
from pydantic import ValidationError
from running import failure_code, outcomes

TOLD = {
    "edit_type": "replace",
    "object_phrase": "dog",
    "source_prompt": "a dog on grass",
    "target_prompt": "a cat on grass",
    "reason": None,
}
GOOD = json.dumps(TOLD)
EMPTY = ("edit_type", "mask_phrase", "target_prompt", "edit_concepts")


def test_reply_of_the_schema_is_a_reading():
    reading = read_reply(f"Let me think {{}}.\n```json\n{GOOD}\n```")
    assert (reading.status, reading.edit_type, reading.mask_phrase) == ("ok", "replace", "dog")
    assert (reading.source_prompt, reading.target_prompt) == ("a dog on grass", "a cat on grass")


def test_null_needs_a_reason():
    unsure = {**TOLD, "edit_type": None}
    assert read_reply(json.dumps(unsure)) is None
    reading = read_reply(json.dumps({**unsure, "reason": "two edits"}))
    assert (reading.status, reading.note, reading.edit_type) == ("partial", "two edits", None)
    nothing = dict.fromkeys(TOLD) | {"reason": "no instruction"}
    assert read_reply(json.dumps(nothing)).status == "unknown"


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "a cat",
        "{}",
        json.dumps({**TOLD, "edit_type": "explode"}),
        json.dumps({**TOLD, "edit_type": 3}),
        json.dumps({**TOLD, "more": 1}),
        json.dumps({k: v for k, v in TOLD.items() if k != "reason"}),
        json.dumps({**TOLD, "target_prompt": ["a cat"]}),
        json.dumps({**TOLD, "target_prompt": "a" * 2000}),
        json.dumps({**TOLD, "target_prompt": " "}),
        f"{GOOD}\nNo, better: {{}}",
        "{" * 5000,
    ],
)
def test_reply_of_another_form_is_no_reading(reply):
    assert read_reply(reply) is None


@pytest.fixture
def serve():
    servers = []

    def start(reply):
        servers.append(Server(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def hosted(server, **fields):
    given = {"request": {"model": "m"}, "attempts": 1, **fields}
    return Instruct(method="endpoint", endpoint=server.url, **given)


ROW = {"instruction": "make the dog a cat", "caption": "a dog on grass", "source_image": None}


def test_endpoint_is_told_instruction_and_caption_and_its_json_is_read(serve, noise):
    server = serve(lambda _: said(GOOD))
    (answer,) = outcomes(hosted(server), [{**ROW, "source_image": noise(1)}])
    assert (answer["instruct_status"], answer["target_prompt"]) == ("ok", "a cat on grass")
    picture, text = server.asked[0]["messages"][0]["content"]
    assert picture["type"] == "image_url"
    assert '"make the dog a cat"' in text["text"]
    assert '"a dog on grass"' in text["text"]
    (blind,) = outcomes(hosted(server, sees_source=False), [ROW])
    assert len(server.asked[1]["messages"][0]["content"]) == 1
    assert blind == answer


def test_bad_answer_is_asked_for_again_and_then_has_a_status(serve):
    second = serve(lambda number: said(GOOD if number == 2 else "a cat"))
    (answer,) = outcomes(hosted(second, sees_source=False), [ROW])
    assert (answer["instruct_status"], len(second.asked)) == ("ok", 2)
    never = serve(lambda _: said("a cat"))
    (answer,) = outcomes(hosted(never, sees_source=False, num_answers=3), [ROW])
    assert (answer["instruct_status"], len(never.asked)) == ("parse_error", 3)
    assert "'a cat'" in answer["instruct_note"]
    assert [answer[name] for name in EMPTY] == [None] * 4
    strict = hosted(never, sees_source=False, on_unknown="fail")
    assert failure_code(strict, ROW) == "instruction_unknown"


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (said("I'm sorry, but I can't help with that."), "refused"),
        ((500, {}), "unreachable"),
        ((413, {}), "bad_request"),
    ],
)
def test_endpoint_without_an_answer_gives_nulls_and_a_status(serve, reply, status):
    (answer,) = outcomes(hosted(serve(lambda _: reply), sees_source=False), [ROW])
    assert answer["instruct_status"] == status
    assert [answer[name] for name in EMPTY] == [None] * 4


def test_endpoint_that_refuses_the_key_fails_the_row(serve):
    server = serve(lambda _: (401, {"error": "secret"}))
    assert failure_code(hosted(server, sees_source=False), ROW) == "instruction_forbidden"


def test_missing_model_and_wrong_fields_are_named():
    with pytest.raises(ValueError, match="names no model"):
        Instruct(method="endpoint").check()
    with pytest.raises(ValueError, match="papercut has no chat model"):
        Instruct(method="model", checkpoint=PAPERCUT).check()
    with pytest.raises(ValidationError, match=r"has no \{instruction\}"):
        Instruct(method="model", prompt="what?")
    with pytest.raises(ValidationError, match="not an http or https"):
        Instruct(method="endpoint", endpoint="ftp://x/v1")


SMALL = {"max_prompt_tokens": 40, "max_new_tokens": 6, "prompt": "{instruction} {caption}"}


def check_batches(operator, rows):
    model = operator.load()
    together = operator.run(rows, model)
    assert [operator.run([row] * 3, model)[0] for row in rows] == together
    return together


def test_model_that_sees_babbles_and_rows_are_independent(judge, noise):
    operator = Instruct(method="model", checkpoint=judge, batch_size=3, **SMALL)
    texts = ("make the circle red", "replace it", "make the square blue")
    rows = [{"instruction": t, "source_image": noise(i)} for i, t in enumerate(texts)]
    answers = check_batches(operator, rows)
    assert {answer["instruct_status"] for answer in answers} == {"parse_error"}
    assert len({answer["instruct_note"] for answer in answers}) > 1
    long = {**rows[0], "instruction": "make it red " * 20}
    assert failure_code(operator, long) == "instruction_too_long"


def test_language_model_reads_without_the_source(language_model):
    operator = Instruct(
        method="model", checkpoint=language_model, batch_size=3, sees_source=False, **SMALL
    )
    operator.check()
    texts = ("make the circle red", "make it", "make the square on the circle blue")
    answers = check_batches(operator, [{"instruction": t} for t in texts])
    assert {answer["instruct_status"] for answer in answers} == {"parse_error"}
    assert len({answer["instruct_note"] for answer in answers}) > 1


def test_target_words_may_replace_nouns_or_adjectives_alike():
    caption = "a small red star and a cup on a striped mint background"
    assert caption_words(caption, "a blue owl") == ("star", "cup")
    assert caption_words(caption, "blue") == ("red",)


@pytest.mark.parametrize(
    ("caption", "words", "target"),
    [
        ("a red star in the centre", "circle", "a red circle in the centre"),
        ("a red star in the centre", "make it blue", "a blue star in the centre"),
        ("a red star", "replace the star with a teal owl", "a teal owl"),
        ("plain", "circle", "plain, circle"),
    ],
)
def test_words_are_injected_into_the_caption(clip, caption, words, target):
    operator = Instruct(method="inject", checkpoint=clip, min_similarity=-1)
    (answer,) = outcomes(operator, [{"instruction": words, "caption": caption}])
    assert answer["target_prompt"] == target
    assert answer["instruct_status"] == ("partial" if "," in target else "ok")


def test_nothing_is_near_enough_where_the_bound_says_so(clip):
    operator = Instruct(method="inject", checkpoint=clip, min_similarity=1)
    (answer,) = outcomes(operator, [{"instruction": "circle", "caption": "a red star"}])
    assert (answer["target_prompt"], answer["edit_type"]) == ("a red star, circle", "add")
