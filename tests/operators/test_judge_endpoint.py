"""A judge behind an endpoint that behaves badly: every row ends with a score or a status."""

import math
import random
import re

import pyarrow as pa
import pytest
from moody_endpoint import Act, MoodyServer, busy, says, words_of
from overpaint.operators.judge import Judge
from running import outcomes, rows_in_actor

GOOD = '{"accuracy": 9, "preservation": 8, "quality": 7, "realism": 6}'
SCORE = 8.0
STATUSES = {
    *("ok", "parse_error", "refused", "timeout", "unreachable", "busy", "bad_request"),
    "over_budget",
}


@pytest.fixture
def serve():
    servers = []

    def start(act):
        servers.append(MoodyServer(act))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def asks(noise, number):
    """Rows whose instructions tell the server which row is asked about."""
    one, other = noise(1), noise(2)
    return [
        {"source_image": one, "edited_image": other, "instruction": f"make it {i}"}
        for i in range(number)
    ]


def judge(server, **fields):
    given = {"request": {"model": "m"}, "batch_size": 64, "timeout_s": 2.0, **fields}
    return Judge(endpoint=server.url, **given)


def row_of(asked):
    return int(re.search(r'"make it (\d+)"', words_of(asked))[1])


MOODS = [
    says(GOOD),
    says(f"Recoloured.\n{GOOD}"),
    says(GOOD[:40], finish="length"),
    says("I'm sorry, I can't help with that."),
    says("", refusal="No."),
    says(None, finish="content_filter"),
    says("A lovely picture!"),
    says('{"accuracy": 0, "preservation": 0}'),
    says("\ud800 accuracy"),
    Act(500, b"oops"),
    Act(400, b'{"error": {"code": "content_filter"}}'),
    Act(413, b"{}"),
    Act(body=b"<html>busy</html>"),
    Act(body=b"[]"),
    Act(body=b'{"choices": []}'),
    Act(body=b'{"choices": [{"message": "hello"}]}'),
    Act(body=b'{"choices": [{"message": {"content": ["what"]}}]}'),
    Act(body=b"[" * 100_000),
    Act(body=says(GOOD).body, cut=20),
    Act(hang_up=True),
    Act(body=says(GOOD).body, delay_s=1.2),
    Act(429, b"{}", {"Retry-After": "0"}),
]


def test_every_row_ends_with_a_score_or_a_status_in_any_weather(serve, noise):
    chooser = random.Random(5)
    moods = {row: [chooser.choice(MOODS) for _ in range(2)] for row in range(len(MOODS) * 2)}
    moods |= {row: [mood] * 2 for row, mood in enumerate(MOODS)}
    seen = dict.fromkeys(moods, 0)

    def act(_, asked):
        row = row_of(asked)
        seen[row] += 1
        return moods[row][min(seen[row], 2) - 1]

    server = serve(act)
    operator = judge(server, attempts=2, patience_s=0, max_concurrency=5, timeout_s=0.8)
    found = outcomes(operator, asks(noise, len(moods)))
    assert 1 < server.most_at_once <= 5
    assert max(seen.values()) <= 2
    for answer in found:
        assert answer["lmm_status"] in STATUSES
        scores = {answer[n] for n in ("lmm_score", "lmm_accuracy", "lmm_quality")}
        if answer["lmm_status"] == "ok":
            assert answer["lmm_score"] == SCORE
        else:
            assert scores == {None}
    statuses = [answer["lmm_status"] for answer in found[: len(MOODS)]]
    assert statuses == [
        *("ok", "ok", "parse_error", "refused", "refused", "refused", "parse_error"),
        *("parse_error", "parse_error", "unreachable", "refused", "bad_request"),
        *("unreachable", "unreachable", "unreachable", "unreachable", "parse_error"),
        *("unreachable", "unreachable", "unreachable", "timeout", "busy"),
    ]
    pa.array([answer["lmm_reply"] for answer in found], pa.string())


def test_endpoint_that_says_when_to_come_back_is_left_alone_until_then(serve, noise):
    server = serve(lambda number, _: busy(1) if number <= 3 else says(GOOD))
    found = rows_in_actor(judge(server, batch_size=3, max_concurrency=3), asks(noise, 9))
    assert [row["lmm_status"] for row in found] == ["ok"] * 9
    later = [time for time in server.times_s if time > server.times_s[0] + 0.5]
    assert len(later) >= 9
    assert min(later) >= server.times_s[0] + 1.0


def test_endpoint_that_is_busy_costs_no_attempt(serve, noise):
    server = serve(lambda number, _: busy(0) if number <= 5 else says(GOOD))
    (answer,) = outcomes(judge(server, attempts=1), asks(noise, 1))
    assert (answer["lmm_status"], len(server.asked)) == ("ok", 6)


def test_endpoint_that_stays_busy_is_given_up_after_the_patience(serve, noise):
    server = serve(lambda *_: busy(1))
    (answer,) = outcomes(judge(server, attempts=1, patience_s=1), asks(noise, 1))
    assert (answer["lmm_status"], answer["lmm_score"]) == ("busy", None)
    assert len(server.asked) == 2


def test_budget_of_requests_holds_and_counts_repeated_ones(serve, noise):
    server = serve(lambda number, _: Act(503, b"{}") if number == 2 else says(GOOD))
    operator = judge(server, max_requests=5, max_concurrency=1)
    found = outcomes(operator, asks(noise, 12))
    assert len(server.asked) == 5
    statuses = [answer["lmm_status"] for answer in found]
    assert statuses == ["ok"] * 4 + ["over_budget"] * 8
    assert [answer["lmm_score"] for answer in found[4:]] == [None] * 8


def test_budget_of_requests_holds_for_many_at_once(serve, noise):
    server = serve(lambda *_: says(GOOD))
    found = outcomes(judge(server, max_requests=7, max_concurrency=6), asks(noise, 30))
    assert len(server.asked) == 7
    assert sum(answer["lmm_status"] == "ok" for answer in found) == 7


def test_budget_of_tokens_ends_the_questions(serve, noise):
    server = serve(lambda *_: says(GOOD, tokens=100))
    operator = judge(server, max_total_tokens=250, max_concurrency=1)
    found = outcomes(operator, asks(noise, 6))
    assert [answer["lmm_status"] for answer in found] == ["ok"] * 3 + ["over_budget"] * 3
    assert len(server.asked) == 3


def test_answer_that_never_ends_is_given_up(serve, noise):
    slow = Act(body=b" " * 4000 + says(GOOD).body, drip_s=0.02)
    (answer,) = outcomes(judge(serve(lambda *_: slow), attempts=1, timeout_s=0.4), asks(noise, 1))
    assert (answer["lmm_status"], answer["lmm_score"]) == ("timeout", None)


def test_kept_replies_are_not_asked_for_again(serve, noise, tmp_path):
    tokens = {"content": [{"token": "4", "logprob": math.log(0.9)}]}
    server = serve(lambda number, _: says("4", logprobs=tokens))
    operator = judge(server, form="expected", reply_cache=str(tmp_path / "replies"))
    first = outcomes(operator, asks(noise, 6))
    again = outcomes(operator, asks(noise, 8))
    assert again[:6] == first
    assert first[0]["lmm_mass"] == pytest.approx(0.9)
    assert len(server.asked) == 8


def test_failures_are_not_kept(serve, noise, tmp_path):
    server = serve(lambda number, _: Act(500, b"") if number == 1 else says(GOOD))
    operator = judge(server, attempts=1, reply_cache=str(tmp_path / "replies"))
    statuses = [outcomes(operator, asks(noise, 1))[0]["lmm_status"] for _ in range(3)]
    assert statuses == ["unreachable", "ok", "ok"]
    assert len(server.asked) == 2


def test_other_requests_have_other_replies(serve, noise, tmp_path):
    server = serve(lambda *_: says(GOOD))
    kept = {"reply_cache": str(tmp_path / "replies")}
    outcomes(judge(server, **kept), asks(noise, 1))
    outcomes(judge(server, request={"model": "other"}, **kept), asks(noise, 1))
    outcomes(judge(server, image_px=16, **kept), asks(noise, 1))
    assert len(server.asked) == 3


def test_damaged_kept_reply_is_asked_for_again(serve, noise, tmp_path):
    server = serve(lambda *_: says(GOOD))
    operator = judge(server, reply_cache=str(tmp_path / "replies"))
    outcomes(operator, asks(noise, 1))
    (file,) = (tmp_path / "replies").glob("*/*.json")
    file.write_bytes(file.read_bytes()[:10])
    assert outcomes(operator, asks(noise, 1))[0]["lmm_status"] == "ok"
    assert len(server.asked) == 2
