"""Questions about pictures to a hosted model with OpenAI's chat-completions interface."""

import base64
import io
import json
import os
import urllib.error
import urllib.request
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Literal

from overpaint.operators.models.chat_model import Question
from PIL import Image
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

ReplyStatus = Literal["ok", "refused", "timeout", "unreachable", "bad_request"]

_MAX_REPLY_BYTES = 4 * 2**20
_NEVER = (401, 403, 404)
_TRANSIENT = (408, 409, 425, 429)


@dataclass(frozen=True, slots=True)
class Reply:
    """Reply of an endpoint: a text where the status is `ok` or `refused`."""

    status: ReplyStatus
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address of a hosted model, and the form of requests to it.

    Attributes:
        url: address of the interface, up to `/v1`.
        api_key: key sent as a bearer token; None sends none.
        request: further members of the request, such as `model` and `temperature`.
        timeout_s: longest wait between two bytes of one attempt, in seconds.
        attempts: number of attempts while a failure may be transient.
        threads: threads that ask, as many as questions may be on their way at once.
    """

    url: str
    api_key: str | None
    request: dict[str, Any]
    timeout_s: float
    attempts: int
    threads: Executor


class ForbiddenError(Exception):
    """Answer of an endpoint that will answer no question."""

    def __init__(self, code: int) -> None:
        super().__init__(f"endpoint answers {code}: look at its URL, model and key")


class _TransientError(Exception):
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


def ask(endpoint: Endpoint, question: Question) -> Reply:
    """Asks one question, several times while a failure may be transient.

    Raises:
        ForbiddenError: no question would be answered.
    """
    body = json.dumps({**endpoint.request, "messages": [_message(question)]}).encode()
    retrying = Retrying(
        retry=retry_if_exception_type(_TransientError),
        wait=wait_random_exponential(multiplier=0.3, max=20),
        stop=stop_after_attempt(endpoint.attempts),
        reraise=True,
    )
    try:
        return retrying(_post, endpoint, body)
    except _TransientError as error:
        return Reply(error.status)


def _post(endpoint: Endpoint, body: bytes) -> Reply:
    headers = {"Content-Type": "application/json"}
    if endpoint.api_key is not None:
        headers["Authorization"] = f"Bearer {endpoint.api_key}"
    url = f"{endpoint.url.rstrip('/')}/chat/completions"
    request = urllib.request.Request(url, body, headers, method="POST")
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=endpoint.timeout_s) as response:
            return _read(response.read(_MAX_REPLY_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            return _failed(error.code, error.read(_MAX_REPLY_BYTES))
    except TimeoutError as error:
        raise _TransientError("timeout") from error
    except OSError as error:
        is_late = isinstance(getattr(error, "reason", None), TimeoutError)
        raise _TransientError("timeout" if is_late else "unreachable") from error


def _failed(code: int, body: bytes) -> Reply:
    if code in _TRANSIENT or code >= 500:
        raise _TransientError("unreachable")
    if code in _NEVER:
        raise ForbiddenError(code)
    if b"content_filter" in body or b"content_policy" in body:
        return Reply("refused")
    return Reply("bad_request")


def _read(body: bytes) -> Reply:
    try:
        choice = json.loads(body)["choices"][0]
        message = choice["message"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise _TransientError("unreachable") from error
    if message.get("refusal"):
        return Reply("refused", str(message["refusal"]))
    text = message.get("content")
    if choice.get("finish_reason") == "content_filter":
        return Reply("refused", text)
    return Reply("ok", _plain(text))


def _plain(content: Any) -> str:
    """Returns the text of a message, which is a string or a list of parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


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
