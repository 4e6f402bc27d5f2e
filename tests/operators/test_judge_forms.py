"""Forms of `judge`: what each asks, reads and refuses to read, of an endpoint and of a model."""

import json
import math

import pytest
from hosted_model import Server, said
from overpaint.operators.forms import FORMS
from overpaint.operators.judge import Judge
from overpaint.operators.measures.told import TokenChoice, Told, expectation
from overpaint.operators.models import chat_model
from overpaint.pipeline.identity import operator_fingerprint
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.stage import Stage
from pydantic import ValidationError
from running import outcomes

NAMES = [
    *("aspects_like", "editeval", "editeval_comparative_like", "expected", "firm_like"),
    *("pair", "points", "viescore"),
]
ASPECTS = {
    "follow": {"reason": "it is red now", "score": 4},
    "preserve": {"reason": "all stayed", "score": 3.5},
    "quality": {"reason": "clean", "score": 2.5},
    "lettering": {"reason": "no words", "score": None},
}


def form(name):
    return FORMS.find(name)()


def read(name, text, tokens=()):
    return form(name).read(Told(text, tuple(tokens)))


def test_forms_are_found_by_themselves():
    assert FORMS.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_form_declares_a_score_from_0_to_10_and_asks_for_the_instruction(name):
    columns = [column.name for column in form(name).columns]
    assert "lmm_score" in columns
    assert len(set(columns)) == len(columns)
    assert "{instruction}" in form(name).questions[0].text
    outputs = [column.name for column in Judge(form=name).outputs]
    assert outputs == [*columns, "lmm_status", "lmm_reply", "judge_prompt_sha256"]


def test_viescore_takes_the_lesser_of_each_two_and_their_geometric_mean():
    first = read("viescore", 'Well.\n{"score": [8, 4], "reasoning": "the cat  moved"}')
    second = read("viescore", '{"score": [9, 9], "reasoning": ""}')
    values = form("viescore").values([first, second])
    assert [values[f"lmm_{n}"] for n in ("follow", "preserve", "natural", "artifact")] == [
        *(8, 4, 9, 9)
    ]
    assert (values["lmm_sc"], values["lmm_pq"]) == (4, 9)
    assert values["lmm_overall"] == values["lmm_score"] == 6.0
    assert values["lmm_reason"] == "the cat moved"


def test_viescore_asks_of_both_pictures_and_then_of_the_edited_one_alone():
    both, alone = form("viescore").questions
    assert [column.name for column in both.pictures] == ["source_image", "edited_image"]
    assert [column.name for column in alone.pictures] == ["edited_image"]
    assert both.text.endswith("Editing instruction: {instruction}\n")
    assert alone.text.endswith("output score = [naturalness, artifacts]\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lovely",
        '{"score": [11, 4]}',
        '{"score": [-1, 4]}',
        '{"score": [8]}',
        '{"score": [8, 4, 2]}',
        '{"score": [8, null]}',
        '{"score": [true, 4]}',
        '{"score": ["good", 4]}',
        '{"score": "8, 4"}',
        '"score" : [...]',
        "Score: eight and four",
        '{"score": [NaN, 4]}',
    ],
)
def test_list_of_scores_that_is_not_what_was_asked_for_is_none(text):
    assert read("viescore", text) is None


def test_scores_are_read_beside_reasoning_that_breaks_the_json():
    found = read("viescore", '{"score": [7, 6], "reasoning": "the "red" hat is gone"}')
    assert (found.first, found.second) == (7, 6)


def test_last_answer_counts_since_models_think_first():
    found = read("points", '{"score": [1, 1]} no, better: {"reasoning": "", "score": [20, 25]}')
    assert (found.first, found.second) == (8, 10)


def test_points_are_brought_from_25_to_10():
    values = form("points").values([read("points", '{"reasoning": "ok", "score": [25, 10]}')])
    assert (values["lmm_follow"], values["lmm_preserve"], values["lmm_score"]) == (10, 4, 4)
    assert read("points", '{"score": [26, 10]}') is None
    assert "From scale 0 to 25" in form("points").questions[0].text
    assert "10" not in form("points").questions[0].text


@pytest.mark.parametrize(
    ("execution", "consistency", "score"),
    [(5, 5, 10.0), (5, 1, 5.0), (1, 5, 0.0), (3, 3, 10 * 0.5 * 0.75)],
)
def test_firm_like_score_is_execution_that_consistency_weakens(execution, consistency, score):
    readings = [read("firm_like", f'{{"score": {n}}}') for n in (execution, consistency)]
    values = form("firm_like").values(readings)
    assert values["lmm_execution"] == execution
    assert values["lmm_consistency"] == consistency
    assert values["lmm_score"] == pytest.approx(score)
    assert read("firm_like", '{"score": 0}') is None
    assert read("firm_like", '{"reasoning": "x", "score": [4]}').value == 4


def test_aspects_have_reasons_and_lettering_may_be_null():
    values = form("aspects_like").values([read("aspects_like", json.dumps(ASPECTS))])
    assert values["lmm_lettering"] is None
    assert values["lmm_score"] == pytest.approx(10 * ((4 + 3.5 + 2.5) / 3 - 1) / 3)
    assert "follow: it is red now" in values["lmm_reason"]


@pytest.mark.parametrize(
    "broken",
    [
        {"follow": {"score": 5}},
        {"follow": None},
        {"follow": {"reason": "no score"}},
        {"lettering": {"score": 9}},
    ],
)
def test_aspects_that_lack_a_score_are_none(broken):
    assert read("aspects_like", json.dumps({**ASPECTS, **broken})) is None
    lacking = {name: ASPECTS[name] for name in ("follow", "preserve")}
    assert read("aspects_like", json.dumps(lacking)) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('A is sharper.\n{"better": "A"}', "A"),
        ('{"better": "b"}', "B"),
        ('{"better": "tie"}', "tie"),
        ("**B**", "B"),
        ("Answer: A.", "A"),
        ("I like A, but B is nice too", None),
        ('{"better": "C"}', None),
        ("", None),
    ],
)
def test_answer_to_a_pair_is_read_strictly(text, answer):
    assert read("pair", text) == answer


@pytest.mark.parametrize(
    ("first", "second", "preference", "agree", "score"),
    [
        ("A", "B", "edited", True, 10),
        ("B", "A", "other", True, 0),
        ("tie", "tie", "tie", True, 5),
        ("A", "A", "tie", False, 5),
        ("B", "B", "tie", False, 5),
        ("A", "tie", "tie", False, 5),
    ],
)
def test_pair_whose_orders_disagree_is_a_tie(first, second, preference, agree, score):
    values = form("pair").values([first, second])
    assert values["lmm_preference"] == preference
    assert values["lmm_orders_agree"] is agree
    assert values["lmm_score"] == score


def digit(text, **chances):
    names = {"zero": "0", "two": " 2", "four": "4", "five": "5", "ten": "10", "word": "Sure"}
    return TokenChoice(text, {names[name]: chance for name, chance in chances.items()})


def test_expected_value_is_that_of_the_digits_probabilities():
    found = read("expected", "4", [digit("4", four=0.5, two=0.25, word=0.25)])
    mean = (4 * 0.5 + 2 * 0.25) / 0.75
    assert found.mean == pytest.approx(2 * mean, abs=1e-5)
    spread = math.sqrt((0.5 * (4 - mean) ** 2 + 0.25 * (2 - mean) ** 2) / 0.75)
    assert found.std == pytest.approx(2 * spread, abs=1e-5)
    assert found.mass == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("4", []),
        ("4 or 5", [digit("4", four=1.0), digit("5", five=1.0)]),
        ("Sure", [digit("Sure", word=0.9, four=0.1)]),
        ("4", [digit("4", four=0.3, word=0.7)]),
        ("42", [digit("4", four=1.0), digit(" 2", two=1.0)]),
    ],
)
def test_expected_value_of_what_is_no_digit_is_none(text, tokens):
    assert read("expected", text, tokens) is None


def test_expected_value_reads_editevals_factors_where_they_are_named():
    names = [("accuracy", 10), ("preservation", 8), ("quality", 6), ("realism", 4)]
    tokens = []
    for name, number in names:
        tokens += [TokenChoice(f"{name}:", {}), TokenChoice(str(number), {str(number): 1.0})]
    found = read("expected", "in words", tokens)
    assert found.mean == pytest.approx(0.4 * 10 + 0.3 * 8 + 0.2 * 6 + 0.1 * 4)
    assert read("expected", "in words", tokens[:-2]) is None


def test_expectation_counts_tokens_that_differ_in_spaces_together():
    assert expectation(TokenChoice("3", {"3": 0.4, " 3": 0.6}), range(6)).mass == 1.0
    assert expectation(TokenChoice("x", {"x": 0.9, "3": 0.1}), range(6)) is None


# ---- through the operator


@pytest.fixture
def serve():
    servers = []

    def start(reply):
        servers.append(Server(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def row(noise):
    pictures = {"source_image": noise(1), "edited_image": noise(2), "other_image": noise(3)}
    return {**pictures, "instruction": "make it red"}


def hosted(server, **fields):
    return Judge(endpoint=server.url, request={"model": "m"}, batch_size=4, **fields)


def shown(asked):
    return [part["image_url"]["url"] for part in asked["messages"][0]["content"][:-1]]


def test_endpoint_is_asked_each_question_of_a_form(serve, row):
    replies = ['{"score": [8, 4]}', '{"score": [9, 9]}']
    server = serve(lambda number: said(replies[number - 1]))
    (answer,) = outcomes(hosted(server, form="viescore"), [row])
    assert (answer["lmm_overall"], answer["lmm_status"]) == (6.0, "ok")
    assert answer["lmm_reply"] == "\n\n".join(replies)
    both, alone = (shown(asked) for asked in server.asked)
    assert alone == both[1:]


def test_endpoint_is_asked_no_further_once_a_question_has_failed(serve, row):
    server = serve(lambda number: said("I'm sorry, I can't help with that."))
    (answer,) = outcomes(hosted(server, form="firm_like"), [row])
    assert answer["lmm_status"] == "refused"
    assert answer["lmm_execution"] is answer["lmm_consistency"] is answer["lmm_score"] is None
    assert len(server.asked) == 1


def test_pair_shows_both_edits_in_both_orders(serve, row):
    server = serve(lambda number: said('{"better": "A"}'))
    (answer,) = outcomes(hosted(server, form="pair"), [row])
    assert (answer["lmm_preference"], answer["lmm_orders_agree"]) == ("tie", False)
    first, second = (shown(asked) for asked in server.asked)
    assert first[0] == second[0]
    assert first[1:] == second[:0:-1]


def test_pair_compares_edits_of_two_stages_of_a_plan():
    judge = Judge(form="pair", endpoint="http://x/v1", request={"model": "m"})
    stage = Stage(operator=judge, reads={"other_image": "draft_image"})
    assert "draft_image" in stage.input_names
    with pytest.raises(ValidationError, match="other_image"):
        Stage(operator=Judge(), reads={"other_image": "draft_image"})


def test_expected_value_asks_an_endpoint_for_probabilities(serve, row):
    top = [{"token": t, "logprob": math.log(p)} for t, p in (("4", 0.6), ("5", 0.2), ("1", 0.2))]
    logprobs = {"content": [{"token": "4", "logprob": math.log(0.6), "top_logprobs": top}]}

    def reply(_):
        status, body = said("4")
        body["choices"][0]["logprobs"] = logprobs
        return status, body

    server = serve(reply)
    (answer,) = outcomes(hosted(server, form="expected"), [row])
    assert (server.asked[0]["logprobs"], server.asked[0]["top_logprobs"]) == (True, 20)
    assert answer["lmm_score"] == pytest.approx(2 * (4 * 0.6 + 5 * 0.2 + 1 * 0.2), abs=1e-5)
    assert answer["lmm_mass"] == pytest.approx(1.0)


def test_expected_value_of_an_endpoint_without_probabilities_is_null(serve, row):
    (answer,) = outcomes(hosted(serve(lambda _: said("4")), form="expected"), [row])
    assert (answer["lmm_status"], answer["lmm_score"]) == ("parse_error", None)


def test_answer_that_cannot_be_read_is_asked_for_again_in_the_same_chat(serve, row):
    server = serve(lambda number: said("Great!" if number == 1 else '{"score": 5}'))
    (answer,) = outcomes(hosted(server, form="firm_like", repairs=1), [row])
    assert (answer["lmm_status"], answer["lmm_score"]) == ("ok", 10)
    _, repaired, other = server.asked
    roles = [turn["role"] for turn in repaired["messages"]]
    assert roles == ["user", "assistant", "user"]
    assert repaired["messages"][1]["content"] == "Great!"
    assert "number from 1 to 5" in repaired["messages"][2]["content"]
    assert len(other["messages"]) == 1


def test_repairs_end(serve, row):
    server = serve(lambda _: said("Great!"))
    (answer,) = outcomes(hosted(server, form="points", repairs=2), [row])
    assert (answer["lmm_status"], len(server.asked)) == ("parse_error", 3)


def test_model_here_answers_several_questions_and_rows_stay_apart(judge, noise):
    operator = Judge(
        checkpoint=judge, form="firm_like", batch_size=2, max_prompt_tokens=400, max_new_tokens=4
    )
    rows = [
        {"source_image": noise(i), "edited_image": noise(i + 5), "instruction": "make it red"}
        for i in range(2)
    ]
    together = outcomes(operator, rows)
    assert [answer["lmm_status"] for answer in together] == ["parse_error"] * 2
    assert all("\n\n" in answer["lmm_reply"] for answer in together)
    assert together == [outcomes(operator, [row])[0] for row in rows]


def test_tokens_of_a_reply_are_the_likeliest_and_say_the_reply(judge, noise):
    operator = Judge(checkpoint=judge, prompt="{instruction}", max_new_tokens=6)
    model = operator.load()
    row = {"source_image": noise(1), "edited_image": noise(2), "instruction": "make it red"}
    (tokens,) = operator.prepare(row, model).questions
    (text,) = chat_model.reply(model, [tokens], 6)
    (told,) = chat_model.reply_with_tokens(model, [tokens], 6, num_choices=5)
    assert told.text == text
    said_ = [token.text for token in told.tokens]
    assert said_ == text.split()
    for token in told.tokens:
        assert max(token.choices, key=token.choices.get) == token.text
        assert len(token.choices) <= 5
        assert 0 < sum(token.choices.values()) <= 1 + 1e-6


def test_expected_value_of_papercuts_judge_ranks_finer_than_its_words(papercut_pair):
    edited, source, instruction = papercut_pair
    rows = [
        {"source_image": source, "edited_image": picture, "instruction": instruction}
        for picture in (edited, source)
    ]
    words, chances = (
        Judge(form=name, batch_size=2, max_prompt_tokens=176) for name in ("editeval", "expected")
    )
    said_, expected_ = outcomes(words, rows), outcomes(chances, rows)
    for one, other in zip(said_, expected_, strict=True):
        assert other["lmm_reply"] == one["lmm_reply"]
        assert other["lmm_status"] == "ok"
        assert 0 <= other["lmm_score"] <= 10
        assert other["lmm_std"] > 0
        assert 0.5 <= other["lmm_mass"] <= 1
    assert expected_[0]["lmm_score"] > expected_[1]["lmm_score"]
    assert expected_ == [outcomes(chances, [row])[0] for row in rows]


@pytest.fixture(scope="module")
def papercut_pair():
    from overpaint.jobs.papercut.draw import draw_pixels
    from overpaint.jobs.papercut.edits import sample_edit
    from overpaint.pipeline.images import Picture, encode

    edit = sample_edit(3, "color", "test")
    pictures = (encode(Picture(draw_pixels(scene))) for scene in (edit.target, edit.source))
    return (*pictures, edit.instruction)


# ---- fields


def test_form_changes_the_fingerprint_and_the_default_does_not():
    hub = {"checkpoint": "owner/name", "revision": "0" * 40}
    plain = operator_fingerprint(Judge(**hub))
    assert operator_fingerprint(Judge(form="editeval", repairs=0, **hub)) == plain
    others = {operator_fingerprint(Judge(form=name, **hub)) for name in NAMES}
    assert len(others) == len(NAMES)
    budget = Judge(max_requests=3, max_total_tokens=9, reply_cache="kept", **hub)
    assert operator_fingerprint(budget) == plain


def test_words_of_a_form_are_in_its_fingerprint(monkeypatch):
    hub = {"checkpoint": "owner/name", "revision": "0" * 40, "form": "points"}
    before = operator_fingerprint(Judge(**hub))
    kind = FORMS.find("points")
    (question,) = kind.questions
    monkeypatch.setattr(kind, "questions", (question._replace(text=f"{question.text} Please."),))
    assert operator_fingerprint(Judge(**hub)) != before


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"form": "firm"}, "did you mean 'firm_like'"),
        ({"form": "nobody_knows"}, "unknown form"),
        ({"form": "pair", "prompt": "{instruction}"}, "asks 2"),
        ({"repairs": 1}, "is for an endpoint"),
    ],
)
def test_wrong_forms_are_refused(fields, words):
    with pytest.raises(ValidationError) as raised:
        Judge(**fields)
    assert words in str(raised.value)


def test_form_may_be_written_with_a_dash():
    assert Judge(form="firm-like") == Judge(form="firm_like")


def test_papercuts_judge_is_asked_only_in_forms_that_it_was_trained_on():
    with pytest.raises(ValueError, match="was not trained on it"):
        Judge(form="viescore").check()
    Judge(form="expected").check()


def test_form_of_somebodys_own_is_found(tmp_path, monkeypatch, serve, row):
    (tmp_path / "own_form.py").write_text(
        "from overpaint.operators.models.judge_form import FormQuestion, JudgeForm\n"
        "from overpaint.pipeline import columns as c\n"
        "class YesNo(JudgeForm):\n"
        "    questions = (FormQuestion('Was this done: {instruction}? yes or no'),)\n"
        "    columns = (c.score('lmm_score', '10 for yes, 0 for no'),)\n"
        "    answer_form = 'yes or no'\n"
        "    def read(self, told):\n"
        "        return {'yes': 10.0, 'no': 0.0}.get(told.text.strip(' .').lower())\n"
        "    def values(self, readings):\n"
        "        return {'lmm_score': readings[0]}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (answer,) = outcomes(hosted(serve(lambda _: said("Yes.")), form="own_form:YesNo"), [row])
    assert (answer["lmm_score"], answer["lmm_status"]) == (10.0, "ok")


def test_plan_with_two_judges_of_different_forms_keeps_their_columns_apart():
    request = {"endpoint": "http://x/v1", "request": {"model": "m"}}
    first = Stage(operator=Judge(form="viescore", **request), name="one")
    second = Stage(operator=Judge(form="points", **request), name="two", prefix="second_")
    plan = Plan(name="two", stages=(first, second))
    names = [column.name for column in plan.stored_columns()]
    assert {"lmm_overall", "second_lmm_follow"} <= set(names)
