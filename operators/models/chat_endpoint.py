"""Questions about pictures to a hosted model with OpenAI's chat-completions interface.

Whatever an endpoint does ends as a reply with a status: it may be late, busy, broken, cut off, or
talk nonsense. Only one that will never answer, by its URL, model or key, is an error.
"""

import base64
import http.client
import io
import json
import math
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from email.message import Message
from typing import Any, Literal

from overpaint.operators.measures.told import TokenChoice
from overpaint.operators.models.chat_budget import ChatBudget
from overpaint.operators.models.chat_model import Question
from overpaint.operators.models.reply_cache import ReplyCache
from overpaint.operators.models.request_limits import (
    BusyError,
    RequestLimits,
    TransientError,
    retry_after_s,
)
from PIL import Image

ReplyStatus = Literal[
    "ok", "refused", "timeout", "unreachable", "busy", "bad_request", "over_budget"
]

_MAX_REPLY_BYTES = 4 * 2**20
_CHUNK_BYTES = 2**16
_NEVER = (401, 403, 404)
_TRANSIENT = (408, 409, 425)


@dataclass(frozen=True, slots=True)
class Reply:
    """Reply of an endpoint.

    Attributes:
        status: `ok`, or why there is no answer.
        text: text of the reply, where the status is `ok` or `refused`.
        tokens: tokens of the text with their alternatives; none where they were not asked for.
    """

    status: ReplyStatus
    text: str | None = None
    tokens: tuple[TokenChoice, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address of a hosted model, and the form of requests to it.

    Attributes:
        url: address of the interface, up to `/v1`.
        api_key: key sent as a bearer token; None sends none.
        request: further members of the request, such as `model` and `temperature`.
        timeout_s: longest wait for an answer to begin, and for it to end, in seconds.
        threads: threads that ask, as many as questions may be on their way at once.
        limits: attempts at one question, and waits of all questions for a busy endpoint.
        budget: requests and tokens of all questions.
        cache: replies that are kept; None keeps none.
    """

    url: str
    api_key: str | None
    request: dict[str, Any]
    timeout_s: float
    threads: Executor
    limits: RequestLimits
    budget: ChatBudget = field(default_factory=ChatBudget)
    cache: ReplyCache | None = None

    @property
    def completions_url(self) -> str:
        """The URL that questions are sent to."""
        return f"{self.url.rstrip('/')}/chat/completions"


class ForbiddenError(Exception):
    """Answer of an endpoint that will answer no question."""

    def __init__(self, code: int) -> None:
        super().__init__(f"endpoint answers {code}: look at its URL, model and key")


class _TransientError(TransientError):
    def __init__(self, status: ReplyStatus) -> None:
        super().__init__(status)
        self.status: ReplyStatus = status


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Handler that follows no redirect: key and pictures are for one address alone."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Returns no request: nothing is followed."""
        del args, kwargs


def read_api_key(variable: str) -> str:
    """Returns the key in an environment variable, without the line end that files give it.

    Raises:
        ValueError: there is none, or it can't stand in a header; it is never quoted.
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(f"api_key_env = {variable!r}: no such environment variable")
    if not (key.isascii() and key.isprintable()):
        raise ValueError(f"api_key_env = {variable!r}: the key holds what no key can hold")
    return key


def by_pass(endpoint: Endpoint, num_passes: int) -> list[Endpoint]:
    """Returns an endpoint for each pass: requests of one have a seed that those of others lack."""
    if num_passes == 1:
        return [endpoint]
    first = endpoint.request.get("seed", 0)
    requests = [{**endpoint.request, "seed": first + number} for number in range(num_passes)]
    return [replace(endpoint, request=request) for request in requests]


def ask(endpoint: Endpoint, question: Question, turns: Sequence[str] = ()) -> Reply:
    """Asks one question, several times while a failure may be transient.

    Args:
        endpoint: hosted model.
        question: pictures and text.
        turns: what followed in the same chat: the model's answer, the next question, and so on.

    Raises:
        ForbiddenError: no question would be answered.
    """
    body = {**endpoint.request, "messages": [_message(question), *_turns(turns)]}
    if kept := _kept(endpoint, body):
        return kept
    data = json.dumps(body).encode()
    try:
        reply = endpoint.limits.ask(lambda: _post(endpoint, data))
    except BusyError:
        return Reply("busy")
    except _TransientError as error:
        return Reply(error.status)
    if endpoint.cache is not None and reply.status in ("ok", "refused"):
        told = {"status": reply.status, "text": reply.text, "tokens": reply.tokens}
        endpoint.cache.keep(endpoint.completions_url, body, told)
    return reply


def _kept(endpoint: Endpoint, body: dict[str, Any]) -> Reply | None:
    """Returns the reply that the cache has for a request."""
    if endpoint.cache is None:
        return None
    found = endpoint.cache.find(endpoint.completions_url, body)
    if found is None or found.get("status") not in ("ok", "refused"):
        return None
    tokens = tuple(TokenChoice(*token) for token in found["tokens"])
    return Reply(found["status"], found["text"], tokens)


def _post(endpoint: Endpoint, body: bytes) -> Reply:
    if not endpoint.budget.take_request():
        return Reply("over_budget")
    headers = {"Content-Type": "application/json"}
    if endpoint.api_key is not None:
        headers["Authorization"] = f"Bearer {endpoint.api_key}"
    request = urllib.request.Request(endpoint.completions_url, body, headers, method="POST")
    try:
        return _answered(endpoint, request)
    except TimeoutError as error:
        raise _TransientError("timeout") from error
    except (OSError, http.client.HTTPException) as error:
        is_late = isinstance(getattr(error, "reason", None), TimeoutError)
        raise _TransientError("timeout" if is_late else "unreachable") from error


def _answered(endpoint: Endpoint, request: urllib.request.Request) -> Reply:
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=endpoint.timeout_s) as response:
            return _read(_body(response, endpoint.timeout_s), endpoint.budget)
    except urllib.error.HTTPError as error:
        with error:
            return _failed(error.code, error.headers, _body(error, endpoint.timeout_s))


def _body(response: Any, timeout_s: float) -> bytes:
    """Reads a body as far as it may be long.

    Raises:
        TimeoutError: it comes too slowly.
    """
    end_s = time.monotonic() + timeout_s
    chunks: list[bytes] = []
    while sum(map(len, chunks)) < _MAX_REPLY_BYTES and (chunk := response.read1(_CHUNK_BYTES)):
        chunks.append(chunk)
        if time.monotonic() > end_s:
            raise TimeoutError("the answer does not end")
    return b"".join(chunks)


def _failed(code: int, headers: Message, body: bytes) -> Reply:
    if code == 429 or (code == 503 and "Retry-After" in headers):
        raise BusyError(retry_after_s(headers.get("Retry-After")))
    if code in _TRANSIENT or code >= 500:
        raise _TransientError("unreachable")
    if code in _NEVER:
        raise ForbiddenError(code)
    if b"content_filter" in body or b"content_policy" in body:
        return Reply("refused")
    return Reply("bad_request")


def _read(body: bytes, budget: ChatBudget) -> Reply:
    try:
        answer = json.loads(body)
        choice = answer["choices"][0]
        message = choice["message"]
        refusal, content = message.get("refusal"), message.get("content")
        reason, logprobs = choice.get("finish_reason"), choice.get("logprobs")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise _TransientError("unreachable") from error
    budget.spend_tokens(_num_tokens(answer))
    if refusal:
        return Reply("refused", _sound(str(refusal)))
    if reason == "content_filter":
        return Reply("refused", None if content is None else _plain(content))
    return Reply("ok", _plain(content), _tokens(logprobs))


def _num_tokens(answer: dict[str, Any]) -> int:
    usage = answer.get("usage")
    number = usage.get("total_tokens") if isinstance(usage, dict) else None
    return number if isinstance(number, int) else 0


def _tokens(logprobs: Any) -> tuple[TokenChoice, ...]:
    """Returns the tokens of `logprobs`; none where it is not what the interface says."""
    try:
        return tuple(
            TokenChoice(str(token["token"]), _choices(token)) for token in logprobs["content"]
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return ()


def _choices(token: dict[str, Any]) -> dict[str, float]:
    chances: dict[str, float] = {}
    for choice in token.get("top_logprobs") or [token]:
        text = str(choice["token"])
        chances[text] = chances.get(text, 0.0) + math.exp(min(0.0, float(choice["logprob"])))
    return chances


def _plain(content: Any) -> str:
    """Returns the text of a message, which is a string or a list of parts."""
    if isinstance(content, list):
        parts = (str(part.get("text", "")) for part in content if isinstance(part, dict))
        return _sound("".join(parts))
    return _sound(str(content or ""))


def _sound(text: str) -> str:
    """Returns a text without halves of characters, which no table can hold."""
    return text.encode(errors="replace").decode()


def _turns(turns: Sequence[str]) -> list[dict[str, Any]]:
    roles = ("assistant", "user")
    return [{"role": roles[place % 2], "content": text} for place, text in enumerate(turns)]


def _message(question: Question) -> dict[str, Any]:
    pictures = [
        {"type": "image_url", "image_url": {"url": _data_url(picture)}}
        for picture in question.pictures
    ]
    return {"role": "user", "content": [*pictures, {"type": "text", "text": question.text}]}


def _data_url(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
