"""Edits by a server, over real HTTP: forms, limits, and every way in which an answer can be bad."""

import io
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
from edit_server import MASKS, MODEL, EditServer, Reply
from overpaint.cluster.worker.batch import Failed
from overpaint.operators.dialects import DIALECTS
from overpaint.operators.edit import Edit
from overpaint.operators.models.request_limits import (
    BusyError,
    RequestLimits,
    TransientError,
    retry_after_s,
)
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import StoppedError
from overpaint.pipeline.identity import operator_fingerprint
from overpaint.pipeline.images import decode
from overpaint.pipeline.operator import Calls, Rejected
from PIL import Image
from pydantic import ValidationError
from running import failure_code, outcomes, rows_in_actor

NAMES = ["openai", "vllm-omni", "sglang"]
KEY = "sk-secret-0123456789"
MODERATED = {"message": "rejected by the safety system", "code": "moderation_blocked"}
SPENT = {"message": "You exceeded your current quota", "type": "insufficient_quota"}


@pytest.fixture
def serve() -> Iterator:
    servers: list[EditServer] = []

    def start(dialect="vllm-omni", **options) -> EditServer:
        servers.append(EditServer(dialect, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def edit_by(server: EditServer, **fields) -> Edit:
    given = {"batch_size": 4, "resolution": 32, "attempts": 2, "timeout_s": 20.0, **fields}
    return Edit(
        method="endpoint",
        endpoint=server.url,
        dialect=server.dialect,
        checkpoint=MODEL,
        **given,
    )


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_every_dialect_is_tested():
    assert sorted(name.replace("-", "_") for name in NAMES) == DIALECTS.names()


@pytest.mark.parametrize("name", NAMES)
def test_form_is_what_the_server_takes(serve, row, name):
    server = serve(name)
    source = row(1)
    references = [*row(5)["reference_images"], *row(6)["reference_images"]]
    (answer,) = outcomes(edit_by(server), [{**source, "reference_images": references}])
    assert isinstance(answer, dict), answer
    (asked,) = server.asked
    assert asked.prompt == source["instruction"]
    assert [
        np.array_equal(pixels(a), pixels(b))
        for a, b in zip(asked.pictures, [source["source_image"], *references], strict=True)
    ] == [True] * 3
    assert asked.fields["size"] == "32x32"
    assert asked.fields.get("seed") == (None if name == "openai" else str(source["seed"]))
    (mask,) = asked.files[MASKS[name]]
    editable = decode(answer["editable_mask_image"]).rgb[..., 0] == 255
    found = np.asarray(Image.open(io.BytesIO(mask)))
    marked = found == 255 if name == "vllm-omni" else found[..., 3] == 0
    assert np.array_equal(marked, editable)
    before, after = pixels(source["source_image"]), decode(answer["edited_image"]).rgb
    assert np.array_equal(before[~editable], after[~editable])
    assert (before[editable] != after[editable]).any()


@pytest.mark.parametrize("name", NAMES)
def test_row_without_mask_and_references_sends_neither(serve, row, name):
    server = serve(name)
    plain = {**row(1), "mask_image": None, "reference_images": None}
    (answer,) = outcomes(edit_by(server), [plain])
    (asked,) = server.asked
    assert [*asked.files] == ["image"]
    tint = 0 if name == "openai" else int(plain["seed"] or 0) % 97
    expected = (255 - pixels(plain["source_image"]).astype(int) + tint) % 256
    assert np.array_equal(decode(answer["edited_image"]).rgb, expected)


def test_settings_go_where_the_dialect_has_them(serve, row):
    server = serve("sglang")
    more = {"true_cfg_scale": 4.0, "negative_prompt": "blur"}
    operator = edit_by(server, num_inference_steps=9, guidance_scale=2.5, request=more)
    assert isinstance(outcomes(operator, [{**row(1), "guidance_scale": 3.5}])[0], dict)
    fields = server.asked[0].fields
    assert (fields["num_inference_steps"], fields["guidance_scale"]) == ("9", "3.5")
    assert (fields["true_cfg_scale"], fields["negative_prompt"]) == ("4.0", "blur")
    assert fields["enable_teacache"] == "false"


def test_rows_of_unlike_size_share_a_batch_that_is_not_padded(serve, row):
    server = serve("openai")
    rows = [row(0), row(1, height=40, width=60)]
    operator = edit_by(server)
    assert operator.bucket(rows[0]) == operator.bucket(rows[1])
    answers = outcomes(operator, rows)
    sizes = {asked.prompt: asked.fields["size"] for asked in server.asked}
    assert sizes == {rows[0]["instruction"]: "32x32", rows[1]["instruction"]: "48x32"}
    assert len(server.asked) == 2
    assert [decode(a["edited_image"]).rgb.shape[:2] for a in answers] == [(32, 32), (40, 60)]


def test_models_of_the_actor_do_not_wait(serve, row):
    class NoModel(Calls):
        def model(self, step, *args, **kwargs):
            raise AssertionError("a request needs no turn of the models")

    operator = edit_by(serve())
    (answer,) = operator.run_by([row(0)], operator.load(), NoModel())
    assert answer["method"] == "endpoint"


def test_as_many_requests_as_allowed_are_under_way(serve, row):
    server = serve()
    server.gather = 3
    rows = [row(n, instruction=f"edit {n}") for n in range(8)]
    done = rows_in_actor(edit_by(server, max_concurrency=3, batch_size=8), rows)
    assert [one.get("error_message") for one in done] == [None] * 8
    assert server.most_at_once == 3
    assert len(server.asked) == 8


def test_busy_server_is_asked_again_when_it_says(serve, row):
    server = serve()
    rows = [row(n, instruction=f"edit {n}") for n in range(4)]
    server.script["edit 0"] = [Reply(429, {}, {"Retry-After": "0.4"})] * 3
    answers = outcomes(edit_by(server, max_concurrency=1), rows)
    assert all(isinstance(answer, dict) for answer in answers)
    times = [asked.at_s for asked in server.asked if asked.prompt == "edit 0"]
    assert len(times) == 4, "being busy uses up no attempt"
    assert min(np.diff(times)) >= 0.4


def test_busy_beyond_patience_fails_the_row(serve, row):
    server = serve()
    server.script[row(0)["instruction"]] = [Reply(429, {}, {"Retry-After": "3600"})]
    assert failure_code(edit_by(server, patience_s=60), row(0)) == "endpoint_busy"
    assert len(server.asked) == 1


TRANSIENT = [Reply(500), Reply(503), Reply(is_cut=True), Reply(408)]


@pytest.mark.parametrize("reply", TRANSIENT, ids=["500", "503", "cut", "408"])
def test_failure_that_passes_is_asked_again(serve, row, reply):
    server = serve()
    server.script[row(0)["instruction"]] = [reply]
    (answer,) = outcomes(edit_by(server), [row(0)])
    assert isinstance(answer, dict)
    assert len(server.asked) == 2


BAD = {
    "endpoint_unreachable": [Reply(500), Reply(is_cut=True)],
    "endpoint_timeout": [Reply(hangs=True)] * 2,
    "endpoint_bad_request": [Reply(400, {"error": {"message": f"no {KEY}\nhere"}})],
    "endpoint_answer_size": [Reply(picture="wide")],
}


@pytest.mark.parametrize("code", BAD)
def test_row_that_cannot_be_done_fails_alone(serve, row, code):
    server = serve()
    rows = [row(0, instruction="bad one"), row(1)]
    server.script["bad one"] = list(BAD[code])
    timeout_s = 0.3 if code == "endpoint_timeout" else 20.0
    bad, good = outcomes(edit_by(server, timeout_s=timeout_s), rows)
    assert isinstance(bad, Failed)
    assert bad.code == code
    assert isinstance(good, dict)
    assert server.times()["bad one"] == len(BAD[code])


UNREADABLE = [
    Reply(picture="cut"),
    Reply(picture="text"),
    Reply(body={"data": []}),
    Reply(body={"data": [{"b64_json": None, "url": "http://127.0.0.1/x.png"}]}),
    Reply(body=[1]),
]


@pytest.mark.parametrize("reply", UNREADABLE, ids=["cut", "text", "none", "url", "list"])
def test_answer_without_a_whole_image_fails_its_row(serve, row, reply):
    server = serve()
    server.script[row(0)["instruction"]] = [reply]
    assert failure_code(edit_by(server), row(0)) == "endpoint_answer_unreadable"
    assert len(server.asked) == 1


def test_answer_of_other_size_and_equal_proportions_is_resized(serve, row):
    server = serve()
    server.script[row(0)["instruction"]] = [Reply(picture="half")]
    (answer,) = outcomes(edit_by(server), [row(0)])
    assert decode(answer["edited_image"]).rgb.shape == (32, 32, 3)


REFUSALS = [
    Reply(400, {"error": MODERATED}),
    Reply(400, {"error": {"message": "no", "code": "content_policy_violation"}}),
    Reply(403, {"detail": "Blocked by our safety system"}),
    Reply(200, {"error": {"code": "content_filter"}, "data": []}),
]


@pytest.mark.parametrize("reply", REFUSALS, ids=["moderation", "policy", "detail", "ok"])
def test_refusal_of_content_rejects_the_row(serve, row, reply):
    server = serve()
    server.script[row(0)["instruction"]] = [reply]
    (answer,) = outcomes(edit_by(server), [row(0)])
    assert answer == Rejected("refused", "the server refuses to make this edit")
    assert len(server.asked) == 1


STOPS = [
    Reply(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}),
    Reply(404, {"detail": "Not Found"}),
    Reply(302, {}, {"Location": "http://127.0.0.1:9/elsewhere"}),
    Reply(429, {"error": SPENT}),
]


@pytest.mark.parametrize("reply", STOPS, ids=["401", "404", "302", "no money"])
def test_server_that_takes_no_request_stops_the_run(serve, row, reply):
    server = serve()
    server.script[row(0)["instruction"]] = [reply]
    with pytest.raises(StoppedError, match=str(reply.status)) as caught:
        outcomes(edit_by(server), [row(0)])
    assert KEY not in str(caught.value)
    assert len(server.asked) == 1


def test_key_comes_from_the_environment_and_goes_nowhere_else(serve, row, monkeypatch):
    monkeypatch.setenv("EDITOR_KEY", f"{KEY}\n")
    server = serve("openai", api_key=KEY)
    operator = edit_by(server, api_key_env="EDITOR_KEY")
    operator.check()
    server.script["bad one"] = [Reply(400, {"error": {"message": f"no such key: {KEY}"}})]
    model = operator.load()
    good, bad = outcomes(operator, [row(0), row(1, instruction="bad one")], model)
    assert good["params_json"]
    said = [json.dumps({k: str(v) for k, v in good.items()}), bad.message, repr(operator)]
    said += [repr(model), repr(model[""]._server), operator.model_dump_json()]
    assert not any(KEY in text for text in said)
    assert bad.message == "the server answers 400: no such key: ..."
    assert KEY.encode() not in b"".join(data for r in server.asked for data in r.pictures)


def test_missing_key_is_named_before_anything_starts(monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    operator = Edit(method="endpoint", checkpoint=MODEL, api_key_env="NO_SUCH_KEY")
    with pytest.raises(ValueError, match="NO_SUCH_KEY"):
        operator.check()


def test_model_must_be_named():
    with pytest.raises(ValueError, match="name the model as the endpoint does"):
        Edit(method="endpoint").check()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"endpoint": "ftp://x/v1"}, "not an http or https URL"),
        ({"endpoint": "https://me:hidden@x/v1"}, "holds a user or password"),
        ({"dialect": "opnai"}, "did you mean 'openai'?"),
        ({"request": {"seed": 3}}, "request.seed"),
        ({"request": {'a"b': 3}}, "request.a"),
        ({"num_inference_steps": 9}, "'openai' does not send it"),
        ({"guidance_scale": 2.0}, "'openai' does not send it"),
    ],
)
def test_wrong_fields_are_refused(fields, words):
    with pytest.raises(ValidationError) as caught:
        Edit(method="endpoint", checkpoint=MODEL, **fields)
    assert words in str(caught.value)
    assert "hidden" not in str(caught.value).split("[type=")[0]


def test_identity_covers_what_changes_pixels_and_nothing_else():
    def fingerprint(**fields):
        return operator_fingerprint(Edit(method="endpoint", checkpoint=MODEL, **fields))

    same = {"endpoint": "https://x/v1", "max_requests": 3, "attempts": 1, "probe": False}
    assert fingerprint(**same, batch_size=3, num_threads=2, dtype="bfloat16") == fingerprint()
    changes = ({"dialect": "sglang"}, {"request": {"quality": "low"}}, {"resolution": 512})
    assert fingerprint(dialect="vllm_omni") == fingerprint(dialect="vllm-omni")
    assert len({fingerprint(), *(fingerprint(**change) for change in changes)}) == 4


def test_cost_is_one_request_a_row(serve, row):
    server = serve()
    operator = edit_by(server)
    assert operator.cost(row(0), {}) == Cost(requests=1)
    model = operator.load()
    outcomes(operator, [row(n) for n in range(3)], model)
    assert model[""].spent == Cost(requests=3)
    assert not operator.reproducible


def test_rows_choose_between_servers(serve, row):
    servers = {name: serve(name) for name in NAMES[:2]}
    own = {"method": "endpoint", "checkpoint": MODEL, "resolution": 32}
    choices = {
        name.replace("-", "_"): {**own, "endpoint": server.url, "dialect": name}
        for name, server in servers.items()
    }
    operator = Edit(choices=choices, batch_size=2)
    rows = [row(number, in_method=name) for number, name in enumerate(choices)]
    done = rows_in_actor(operator, rows)
    assert [one["method"] for one in done] == ["endpoint"] * 2
    asked = [[one.prompt for one in server.asked] for server in servers.values()]
    assert asked == [[rows[0]["instruction"]], [rows[1]["instruction"]]]
    assert not operator.reproducible


def test_requests_begin_at_the_pace_that_is_set(serve, row):
    server = serve()
    rows = [row(n, instruction=f"edit {n}") for n in range(4)]
    outcomes(edit_by(server, max_requests_per_minute=600), rows)
    times = sorted(asked.at_s for asked in server.asked)
    assert times[-1] - times[0] >= 0.25


def test_busy_server_is_left_alone_by_every_thread():
    limits = RequestLimits(max_concurrency=2, patience_s=0.3)

    def busy():
        raise BusyError(5.0)

    with pytest.raises(BusyError):
        limits.ask(busy)
    start_s = time.monotonic()
    assert limits.ask(time.monotonic) - start_s > 0.25


def test_failures_that_may_pass_are_counted_apart_from_a_busy_server():
    raised = [BusyError(0.0), TransientError("a"), BusyError(0.0), TransientError("b")]
    limits = RequestLimits(max_concurrency=1, attempts=2)

    def request():
        raise raised.pop(0)

    with pytest.raises(TransientError, match="b"):
        limits.ask(request)
    assert not raised


def test_retry_after_is_seconds_or_a_date():
    assert retry_after_s("12") == 12.0
    assert retry_after_s("-3") is None
    assert retry_after_s("0") == 0.0
    assert retry_after_s(None) is None
    assert retry_after_s("soon") is None
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 < (retry_after_s(later) or 0) <= 90
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    assert retry_after_s(past) == 0.0
