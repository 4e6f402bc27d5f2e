import base64
import io
import time
from collections.abc import Callable, Iterator

import pytest
from hosted_model import Server, said
from overpaint.operators.judge import Judge
from overpaint.operators.measures.verdicts import PROMPT, Verdict, read_verdict
from overpaint.pipeline.identity import sha256
from PIL import Image
from pydantic import ValidationError
from running import failure_code, outcomes, rows_in_actor

FACTORS = ("lmm_accuracy", "lmm_preservation", "lmm_quality", "lmm_realism")
GOOD = '{"accuracy": 9, "preservation": 8, "quality": 7, "realism": 6}'


@pytest.mark.parametrize(
    "reply",
    [
        "accuracy: 9 preservation: 8 quality: 7 realism: 6",
        GOOD,
        f"It was recoloured.\n```json\n{GOOD}\n```",
        "First accuracy: 2.\n" + GOOD,
        '{"Editing Accuracy": 9, "contextual_preservation": "8", "visual quality": 7.0, '
        '"logical realism": {"score": 6}}',
        "**Editing Accuracy**: 9/10\n**Contextual Preservation:** 8/10\n"
        "- Visual Quality = 7\n- Logical Realism - 6",
        "Accuracy: 3, no, better:\naccuracy: 9\nPreservation score: 8\nQuality: 7\nRealism: 6.",
        "| accuracy | 9 | preservation | 8 | quality | 7 | realism | 6 |",
        "S_acc: 9, S_pre: 8, S_qua: 7, S_real: 6",
    ],
)
def test_reply_is_read_in_every_usual_form(reply):
    assert read_verdict(reply) == Verdict(9, 8, 7, 6)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "a lovely picture",
        "accuracy: 9 preservation: 8 quality: 7",
        "accuracy: 9 preservation: 8 quality: 7 realism: 11",
        "accuracy: 9 preservation: 8 quality: 7 realism: -1",
        "accuracy: 0-10 preservation: 0-10 quality: 0-10 realism: 0-10",
        "accuracy: 90/100 preservation: 8 quality: 7 realism: 6",
        '{"accuracy": true, "preservation": 8, "quality": 7, "realism": 6}',
        '{"accuracy": NaN, "preservation": 8, "quality": 7, "realism": 6}',
        '{"accuracy": 9, "preservation": 8, "quality": 7, "realism": 60}',
        '{"accuracy": "very good", "preservation": 8, "quality": 7, "realism": 6}',
        '{"accuracy": 9, "preservation": 8, "quality": 7, "realism"',
        "inaccuracy: 9 preservation: 8 quality: 7 realism: 6",
        "{" * 5000,
    ],
)
def test_unreadable_reply_is_no_verdict(reply):
    assert read_verdict(reply) is None


def test_score_is_editevals_weighted_sum():
    assert Verdict(9, 8, 7, 6).score == pytest.approx(0.4 * 9 + 0.3 * 8 + 0.2 * 7 + 0.1 * 6)
    assert Verdict(10, 10, 10, 10).score == 10


@pytest.fixture
def rows(noise) -> list[dict]:
    words = ("make the circle red", "replace it", "make the square on the circle blue")
    return [
        {"source_image": noise(i), "edited_image": noise(i + 10), "instruction": text}
        for i, text in enumerate(words)
    ]


def answers(operator: Judge, rows: list[dict]) -> list[dict]:
    return outcomes(operator, rows)


def test_model_answers_do_not_depend_on_neighbours(judge, rows):
    operator = Judge(
        checkpoint=judge,
        batch_size=3,
        max_prompt_tokens=40,
        max_new_tokens=8,
        prompt="{instruction}",
    )
    first = answers(operator, rows)
    again = answers(operator, [rows[2], rows[0], rows[0]])
    assert first[0] == again[1] == again[2]
    assert first[2] == again[0]
    assert len({answer["lmm_reply"] for answer in first}) > 1


def test_model_that_babbles_gives_nulls_and_a_status(judge, rows):
    (answer,) = answers(Judge(checkpoint=judge, max_new_tokens=4, prompt="{instruction}"), rows[:1])
    assert [answer[name] for name in (*FACTORS, "lmm_score")] == [None] * 5
    assert answer["lmm_status"] == "parse_error"
    assert answer["lmm_reply"]


def test_control_tokens_in_an_instruction_are_plain_text(judge, rows):
    row = {**rows[0], "instruction": "make </s> the <image> red"}
    operator = Judge(checkpoint=judge, max_new_tokens=4, prompt="{instruction}")
    assert answers(operator, [row])[0]["lmm_status"] == "parse_error"


def test_prompt_beyond_the_padded_length_fails_with_a_code(judge, rows):
    operator = Judge(checkpoint=judge, batch_size=3, max_prompt_tokens=14, prompt="{instruction}")
    short, other, long = answers(operator, rows)
    assert short["lmm_reply"]
    assert other["lmm_reply"]
    assert long.code == "judge_prompt_too_long"


def test_row_that_asks_for_nothing_fails_with_a_code(judge, rows):
    for blank in (None, "", " \n"):
        asks_nothing = {**rows[0], "instruction": blank, "target_prompt": blank}
        assert failure_code(Judge(checkpoint=judge), asks_nothing) == "judge_instruction_missing"


def test_rows_of_one_size_share_a_call():
    operator = Judge(image_px=64)
    assert operator.bucket({"width_px": 640, "height_px": 320}) == (64, 32)
    assert operator.bucket({"width_px": 64, "height_px": 32}) == (64, 32)
    assert operator.bucket({"width_px": 64, "height_px": 64}) == (64, 64)
    assert operator.bucket({}) is None


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(reply: Callable[[int], tuple[int, dict]]) -> Server:
        servers.append(Server(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def hosted(server: Server, **fields: object) -> Judge:
    request = {"model": "some-model", "temperature": 0}
    return Judge(endpoint=server.url, request=request, **{"batch_size": 8, **fields})


def test_endpoint_sees_both_pictures_and_the_instruction(serve, rows, monkeypatch):
    server = serve(lambda _: said(f"Recoloured.\n{GOOD}"))
    monkeypatch.setenv("JUDGE_KEY", "secret\n")  # as a file gives it
    operator = hosted(server, api_key_env="JUDGE_KEY")
    operator.check()
    (answer,) = answers(operator, rows[:1])
    assert [answer[name] for name in FACTORS] == [9, 8, 7, 6]
    assert answer["lmm_score"] == pytest.approx(8.0)
    assert (answer["lmm_status"], answer["lmm_reply"]) == ("ok", f"Recoloured.\n{GOOD}")
    (asked,) = server.asked
    assert (asked["path"], asked["model"]) == ("/v1/chat/completions", "some-model")
    assert server.headers[0]["Authorization"] == "Bearer secret"
    first, second, text = asked["messages"][0]["content"]
    for part in (first, second):
        data = base64.b64decode(part["image_url"]["url"].removeprefix("data:image/png;base64,"))
        assert Image.open(io.BytesIO(data)).size == (48, 40)
    assert first != second
    assert '"make the circle red"' in text["text"]


def test_endpoint_is_asked_several_questions_at_once_within_bounds(serve, rows):
    server = serve(lambda _: said(GOOD))
    many = [{**rows[0], "instruction": f"make it {i}"} for i in range(12)]
    found = answers(hosted(server, batch_size=12, max_concurrency=3), many)
    assert len(found) == len(server.asked) == 12
    assert 1 < server.most_at_once <= 3


def test_endpoint_is_asked_within_bounds_by_several_batches_at_a_time(serve, rows):
    server = serve(lambda _: said(GOOD))
    many = [{**rows[0], "instruction": f"make it {i}"} for i in range(12)]
    found = rows_in_actor(hosted(server, batch_size=2, max_concurrency=3), many)
    assert [row["lmm_status"] for row in found] == ["ok"] * 12
    assert 1 < server.most_at_once <= 3


def test_endpoint_that_is_busy_is_asked_again(serve, rows):
    server = serve(lambda number: said(GOOD) if number == 3 else (503 if number == 1 else 429, {}))
    (answer,) = answers(hosted(server), rows[:1])
    assert (answer["lmm_status"], len(server.asked)) == ("ok", 3)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (said("I'm sorry, but I can't help with that."), "refused"),
        (said(None, refusal="No."), "refused"),
        ((400, {"error": {"code": "content_filter"}}), "refused"),
        (said("Nice!"), "parse_error"),
        (said(None), "parse_error"),
        ((500, {}), "unreachable"),
        ((413, {}), "bad_request"),
        ((200, {"unexpected": 1}), "unreachable"),
    ],
)
def test_endpoint_without_a_verdict_gives_nulls_and_a_status(serve, rows, reply, status):
    (answer,) = answers(hosted(serve(lambda _: reply), attempts=2), rows[:1])
    assert answer["lmm_status"] == status
    assert [answer[name] for name in (*FACTORS, "lmm_score")] == [None] * 5


def test_endpoint_that_is_silent_times_out(serve, rows):
    def late(_: int) -> tuple[int, dict]:
        time.sleep(1)
        return said(GOOD)

    (answer,) = answers(hosted(serve(late), attempts=1, timeout_s=0.2), rows[:1])
    assert (answer["lmm_status"], answer["lmm_score"]) == ("timeout", None)


def test_endpoint_that_is_gone_is_unreachable(rows):
    operator = Judge(endpoint="http://127.0.0.1:9/v1", request={"model": "m"}, attempts=1)
    assert answers(operator, rows[:1])[0]["lmm_status"] == "unreachable"


@pytest.mark.parametrize(("status", "code"), [(401, "judge_forbidden"), (404, "judge_bad_request")])
def test_endpoint_that_will_never_answer_fails_the_row(serve, rows, monkeypatch, status, code):
    monkeypatch.setenv("JUDGE_KEY", "secret")
    server = serve(lambda _: (status, {"error": "secret"}))
    (failed,) = answers(hosted(server, api_key_env="JUDGE_KEY"), rows[:1])
    assert failed.code == "judge_forbidden"
    assert "secret" not in failed.message
    assert len(server.asked) == 1


def test_endpoint_redirect_is_not_followed(serve, rows):
    other = serve(lambda _: said(GOOD))
    server = serve(lambda _: (302, {"to": f"{other.url}/chat/completions"}))
    assert answers(hosted(server), rows[:1])[0]["lmm_status"] == "bad_request"
    assert other.asked == []


def test_prompt_is_recorded_by_its_hash(serve, rows):
    server = serve(lambda _: said(GOOD))
    plain, own = (answers(hosted(server, prompt=p), rows[:1])[0] for p in (None, "{instruction}?"))
    assert plain["judge_prompt_sha256"] == sha256(PROMPT.encode())
    assert own["judge_prompt_sha256"] == sha256(b"{instruction}?")
    assert server.asked[1]["messages"][0]["content"][2]["text"] == "make the circle red?"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"batch_size": 2}, "needs max_prompt_tokens"),
        ({"prompt": "rate this"}, "has no {instruction}"),
        ({"endpoint": "ftp://x/v1"}, "not an http or https"),
        ({"endpoint": "http://x/v1"}, "names no model"),
    ],
)
def test_wrong_fields_are_refused(fields, words):
    with pytest.raises(ValidationError) as raised:
        Judge(**fields)
    assert words in str(raised.value)


def test_check_missing_key_is_named(monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    operator = Judge(endpoint="http://x/v1", request={"model": "m"}, api_key_env="NO_SUCH_KEY")
    with pytest.raises(ValueError, match="NO_SUCH_KEY"):
        operator.check()


def test_check_key_that_no_header_can_hold_is_refused_and_not_quoted(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "sec\nret")
    operator = Judge(endpoint="http://x/v1", request={"model": "m"}, api_key_env="JUDGE_KEY")
    with pytest.raises(ValueError, match="no key can hold") as caught:
        operator.check()
    assert "sec" not in str(caught.value)
