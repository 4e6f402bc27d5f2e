"""A judge that is asked several times: means, their spread, and passes that cannot be read."""

import json
from statistics import fmean, pstdev

import pytest
from moody_endpoint import MoodyServer, says
from overpaint.operators.judge import Judge
from overpaint.pipeline.identity import operator_fingerprint
from pydantic import ValidationError
from running import outcomes

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
        ({"endpoint": None}, "answers alike"),
    ],
)
def test_passes_that_would_be_alike_are_refused(fields, words):
    with pytest.raises(ValidationError, match=words):
        Judge(**{"endpoint": "http://localhost/v1", "num_passes": 2, **fields})


def test_one_pass_is_the_judge_that_it_was():
    once = Judge(endpoint="http://localhost/v1", request=REQUEST)
    assert operator_fingerprint(once) == operator_fingerprint(once.model_copy())
    assert "lmm_std" not in {column.name for column in once.outputs}
    twice = Judge(endpoint="http://localhost/v1", request=REQUEST, num_passes=2)
    assert operator_fingerprint(once) != operator_fingerprint(twice)
