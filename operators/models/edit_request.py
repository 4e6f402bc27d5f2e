"""One request for an edit, and the ways in which a server's answer can be of no use.

A refusal of the content rejects the row. A server that takes no request of this account stops the
run, whose rows stay pending; what else is wrong with one answer fails one row.
"""

import base64
import http.client
import json
import math
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from typing import Any

import numpy as np
from overpaint.operators.framing.frame import Size
from overpaint.operators.models.image_edits import Form
from overpaint.operators.models.request_limits import BusyError, TransientError, retry_after_s
from overpaint.pipeline.errors import RowError, StoppedError
from overpaint.pipeline.images import Pixels, decode, release
from overpaint.pipeline.operator import Rejected
from PIL import Image

REFUSED = Rejected("refused", "the server refuses to make this edit")
"""Answer for a row whose content the server refuses."""

_MAX_ANSWER_BYTES = 256 * 2**20
_CHUNK_BYTES = 2**16
_MAX_PIXELS = 128_000_000
_MOST_SKEW = 0.05
"""Difference of the logarithms of two proportions that sizes in whole multiples can have."""
_TRANSIENT = (408, 409, 425)
_STOPS = (401, 402, 403, 404, 405, 407)
_SPENT = ("insufficient_quota", "billing", "credit_balance", "spend_limit", "usage_limit")
"""Parts of the codes of an account that has nothing left to spend (HTTP 429)."""
_REFUSALS = ("moderation", "content_policy", "content_filter", "content_safety", "safety system")
"""Parts of the codes and words by which hosted models refuse content."""
_MOST_WORDS = 160


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """Address of a server, and what goes with every request to it.

    Attributes:
        url: address to which forms are sent.
        api_key: key sent as a bearer token; None sends none.
        timeout_s: longest time of one request, in seconds.
    """

    url: str
    api_key: str | None
    timeout_s: float

    def __repr__(self) -> str:
        return f"Server({self.url!r})"  # without the key


class _TimeoutError(TransientError):
    """Failure of a request that took longer than it may."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Handler that follows no redirect: key and pictures are for one address alone."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Returns no request: nothing is followed."""
        del args, kwargs


def post(server: Server, form: Form) -> bytes | Rejected:
    """Asks for an edit once.

    Returns:
        The encoded picture, not looked at yet; or `Rejected` where the server refuses the content.

    Raises:
        BusyError: the server asks to be asked later.
        TransientError: the failure may pass.
        StoppedError: the server takes no request.
        RowError: `endpoint_bad_request` or `endpoint_answer_unreadable`.
    """
    headers = {"Content-Type": form.content_type, "Accept": "application/json"}
    if server.api_key is not None:
        headers["Authorization"] = f"Bearer {server.api_key}"
    request = urllib.request.Request(server.url, form.body(), headers, method="POST")
    end_s = time.monotonic() + server.timeout_s
    try:
        opener = urllib.request.build_opener(_NoRedirects)
        with opener.open(request, timeout=server.timeout_s) as response:
            return _answer(_read(response, end_s))
    except urllib.error.HTTPError as error:
        with error:
            return _failed(server, error.code, error.headers, _read(error, end_s))
    except TimeoutError as error:
        raise _TimeoutError("no answer in time") from error
    except (OSError, http.client.HTTPException) as error:
        if isinstance(getattr(error, "reason", None), TimeoutError):
            raise _TimeoutError("no answer in time") from error
        raise TransientError("the server cannot be reached, or breaks off") from error


def as_row_error(error: BusyError | TransientError) -> RowError:
    """Returns the error of a row whose last request failed."""
    if isinstance(error, BusyError):
        return RowError("endpoint_busy", "the server is busy for longer than patience_s")
    if isinstance(error, _TimeoutError):
        return RowError("endpoint_timeout", str(error))
    return RowError("endpoint_unreachable", str(error))


def read_picture(data: bytes, size: Size) -> Pixels:
    """Returns an answer's picture, RGB uint8 HWC of the size that was asked for.

    A server may answer in another size of the same proportions: it is resized.

    Raises:
        RowError: `endpoint_answer_unreadable` or `endpoint_answer_size`.
    """
    try:
        picture = decode(data, _MAX_PIXELS)
    except RowError as error:
        raise RowError("endpoint_answer_unreadable", f"the answer's image: {error}") from error
    release([data])
    width_px, height_px = picture.width_px, picture.height_px
    skew = math.log(width_px / height_px) - math.log(size.width_px / size.height_px)
    if abs(skew) > _MOST_SKEW:
        asked = f"{size.width_px}x{size.height_px}"
        raise RowError("endpoint_answer_size", f"{width_px}x{height_px} px instead of {asked} px")
    wanted = (size.width_px, size.height_px)
    if (width_px, height_px) == wanted:
        return picture.seen
    return np.asarray(picture.image().resize(wanted, Image.Resampling.LANCZOS))


def _read(response: Any, end_s: float) -> bytes:
    """Reads a whole body, within a time.

    Raises:
        TimeoutError: it is late.
        TransientError: it breaks off before its end.
        RowError: `endpoint_answer_unreadable`: no picture is as long.
    """
    chunks: list[bytes] = []
    num_bytes = 0
    while chunk := response.read1(_CHUNK_BYTES):
        chunks.append(chunk)
        num_bytes += len(chunk)
        if num_bytes > _MAX_ANSWER_BYTES:
            raise RowError("endpoint_answer_unreadable", "the answer is longer than any picture")
        if time.monotonic() > end_s:
            raise TimeoutError
    if getattr(response, "length", None):  # of the bytes that the header promised
        raise TransientError("the answer breaks off before its end")
    return b"".join(chunks)


def _answer(body: bytes) -> bytes | Rejected:
    found = _parsed(body)
    if _is_refusal(found):
        return REFUSED
    try:
        return base64.b64decode(found["data"][0]["b64_json"], validate=True)
    except (ValueError, LookupError, TypeError) as error:
        reason = "the answer holds no image in base64"
        raise RowError("endpoint_answer_unreadable", reason) from error


def _failed(server: Server, code: int, headers: Message, body: bytes) -> Rejected:
    """Raises what an answer with an error means; returns `Rejected` for refused content."""
    found = _parsed(body)
    if _is_refusal(found):
        return REFUSED
    if code in _STOPS or 300 <= code < 400 or (code == 429 and _has(found, _SPENT)):
        word = "; its account has nothing left to spend" if code in (402, 429) else ""
        raise StoppedError(
            f"the endpoint answers {code}{word}: look at its URL, model, key and account"
        )
    if code == 429 or (code == 503 and "Retry-After" in headers):
        raise BusyError(retry_after_s(headers.get("Retry-After")))
    if code in _TRANSIENT or code >= 500:
        raise TransientError(f"the server answers {code}")
    words = _words(found, server.api_key)
    raise RowError("endpoint_bad_request", f"the server answers {code}{words}")


def _parsed(body: bytes) -> Any:
    """Returns the JSON of a body; an empty object where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return {}


def _error(found: Any) -> dict[str, Any]:
    """Returns the error in an answer: OpenAI's `error`, or FastAPI's `detail`."""
    if not isinstance(found, dict):
        return {}
    error: Any = found.get("error") or found.get("detail") or {}
    return error if isinstance(error, dict) else {"message": error}


def _has(found: Any, parts: tuple[str, ...]) -> bool:
    error = _error(found)
    text = " ".join(str(error.get(name) or "") for name in ("code", "type", "message")).lower()
    return any(part in text for part in parts)


def _is_refusal(found: Any) -> bool:
    return _has(found, _REFUSALS)


def _words(found: Any, api_key: str | None) -> str:
    """Returns what a server says of a request, in short, and without the key."""
    message = _error(found).get("message")
    if not message:
        return ""
    text = " ".join(str(message).split())
    return f": {text.replace(api_key, '...') if api_key else text}"[:_MOST_WORDS]
