"""A judge that is asked several times: means, their spread, and passes that cannot be read."""

import json
from statistics import fmean, pstdev

import pytest
from moody_endpoint import MoodyServer, says
from overpaint.operators.judge import Judge
from overpaint.operators.models.chat_model import Question, Sampling, reply_with_tokens, tokenize
from overpaint.operators.models.judge_form import FormQuestion, JudgeForm
from overpaint.pipeline import columns as c
from overpaint.pipeline.identity import identity_fields, operator_fingerprint
from PIL import Image
from pydantic import ValidationError
from running import outcomes, rows_in_actor

FIRST = 40
SCORES = {FIRST: 9, FIRST + 1: 5, FIRST + 2: 4}
REQUEST = {"model": "m", "temperature": 0.7, "seed": FIRST}


def answer(score):
    names = ("accuracy", "preservation", "quality", "realism")
    return says(json.dumps(dict.fromkeys(names, score)))


@pytest.fixture
def serve():
    servers = []

    def start(act):
        servers.append(MoodyServer(act))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def judged(noise, server, **fields):
    rows = [{"source_image": noise(1), "edited_image": noise(2), "instruction": "make it 0"}]
    given = {"request": REQUEST, "num_passes": 3, "timeout_s": 2.0, **fields}
    (found,) = outcomes(Judge(endpoint=server.url, **given), rows)
    return found


def test_figures_are_means_over_passes_with_seeds_of_their_own(noise, serve):
    server = serve(lambda number, asked: answer(SCORES[asked["seed"]]))
    found = judged(noise, server)
    assert sorted(asked["seed"] for asked in server.asked) == [FIRST, FIRST + 1, FIRST + 2]
    assert found["lmm_score"] == pytest.approx(fmean(SCORES.values()))
    assert found["lmm_std"] == pytest.approx(pstdev(SCORES.values()))
    assert (found["lmm_passes"], found["lmm_status"]) == (3, "ok")
    assert all(isinstance(v, float) for k, v in found.items() if k.startswith("lmm_acc"))


def test_a_pass_that_cannot_be_read_counts_as_nothing(noise, serve):
    def act(number, asked):
        return (
            says("A lovely picture!") if asked["seed"] == FIRST else answer(SCORES[asked["seed"]])
        )

    found = judged(noise, serve(act))
    assert (found["lmm_score"], found["lmm_std"]) == (4.5, 0.5)
    assert (found["lmm_passes"], found["lmm_status"]) == (2, "ok")


def test_where_no_pass_can_be_read_there_is_no_number(noise, serve):
    found = judged(noise, serve(lambda number, asked: says("A lovely picture!")))
    assert (found["lmm_score"], found["lmm_std"], found["lmm_passes"]) == (None, None, 0)
    assert found["lmm_status"] == "parse_error"


def test_kept_replies_are_those_of_each_pass(noise, serve, tmp_path):
    server = serve(lambda number, asked: answer(SCORES[asked["seed"]]))
    first = judged(noise, server, reply_cache=str(tmp_path))
    assert judged(noise, server, reply_cache=str(tmp_path)) == first
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"request": {"model": "m", "temperature": 0}}, "needs request.temperature above 0"),
        ({"request": REQUEST, "form": "pair"}, "no figures to average"),
        ({"endpoint": None}, "needs temperature above 0"),
    ],
)
def test_passes_that_would_be_alike_are_refused(fields, words):
    with pytest.raises(ValidationError, match=words):
        Judge(**{"endpoint": "http://localhost/v1", "num_passes": 2, **fields})


class Length(JudgeForm):
    """The length of a reply, so that a model with random weights can be read."""

    questions = (FormQuestion("{instruction}"), FormQuestion("again {instruction}"))
    columns = (c.score("lmm_score", "letters of both replies"),)
    answer_form = "a text"

    def read(self, told):
        return float(len(told.text))

    def values(self, readings):
        return {"lmm_score": sum(readings)}


def sampling_judge(judge, **fields):
    given = {"num_passes": 3, "temperature": 1.5, "batch_size": 3, "max_prompt_tokens": 40}
    form = f"{__name__}:Length"
    return Judge(checkpoint=judge, form=form, max_new_tokens=6, **{**given, **fields})


def edits(noise, seeds):
    text = "make the circle red"
    images = {"source_image": noise(1), "edited_image": noise(2)}
    return [{**images, "instruction": text, "seed": seed} for seed in seeds]


def test_model_here_samples_by_the_row_s_seed_alone(judge, noise):
    operator = sampling_judge(judge)
    first = outcomes(operator, edits(noise, (1, 2, 3)))
    again = outcomes(operator, edits(noise, (3, 3, 1)))
    assert first[0] == again[2]
    assert first[2] == again[0] == again[1]
    assert len({found["lmm_score"] for found in first}) > 1
    assert rows_in_actor(operator, edits(noise, (2,)))[0]["lmm_score"] == first[1]["lmm_score"]
    assert all(found["lmm_passes"] == 3 for found in first)
    assert any(found["lmm_std"] > 0 for found in first)


def test_first_pass_of_several_is_the_only_one_of_one(judge, noise):
    rows = edits(noise, (1, 2, 3))
    many = outcomes(sampling_judge(judge), rows)
    (one, two, three) = outcomes(sampling_judge(judge, num_passes=1), rows)
    assert [found["lmm_reply"] for found in many] == [
        found["lmm_reply"] for found in (one, two, three)
    ]
    assert "lmm_std" not in one


def test_words_come_as_often_as_their_probabilities_say(judge, noise):
    model = Judge(checkpoint=judge).load()
    question = Question((Image.new("RGB", (32, 32)),) * 2, "make the circle red")
    tokens = tokenize(model, question, None)
    (told,) = reply_with_tokens(model, [tokens], 1, num_choices=8)
    warm = Sampling(range(600), 1.0)
    drawn = [one.text for one in reply_with_tokens(model, [tokens] * 600, 1, warm)]
    special = {"", "?", *model.processor.tokenizer.all_special_tokens}
    known = {k: v for k, v in told.tokens[0].choices.items() if k.strip() not in special}
    assert known
    for word, chance in known.items():
        assert drawn.count(word) / 600 == pytest.approx(chance, abs=0.07)


def test_greedy_judge_has_the_key_that_it_had(judge):
    plain, warm = Judge(checkpoint=judge), Judge(checkpoint=judge, temperature=0.5)
    assert not {"temperature", "adapters", "num_passes"} & set(identity_fields(plain))
    assert operator_fingerprint(plain) != operator_fingerprint(warm)
    assert "seed" not in {column.name for column in plain.optional}


def test_one_pass_is_the_judge_that_it_was():
    once = Judge(endpoint="http://localhost/v1", request=REQUEST)
    assert operator_fingerprint(once) == operator_fingerprint(once.model_copy())
    assert "lmm_std" not in {column.name for column in once.outputs}
    twice = Judge(endpoint="http://localhost/v1", request=REQUEST, num_passes=2)
    assert operator_fingerprint(once) != operator_fingerprint(twice)
