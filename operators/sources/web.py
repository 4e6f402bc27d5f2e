"""Downloads by http and https: checked addresses and redirects, bounded bytes and time.

Proxies are not used: behind one, the address that is reached could not be checked.
"""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from overpaint.operators.sources import addresses
from overpaint.pipeline.errors import RowError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_MISSING = (404, 410)
_FORBIDDEN = (401, 402, 403, 407, 451)
_TRANSIENT = (408, 425, 429)
_CHUNK_BYTES = 1 << 16
_HEADERS = {"User-Agent": "overpaint", "Accept": "image/*", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """Limits of one download.

    Attributes:
        max_bytes: size of the largest response.
        timeout_s: limit of one attempt, redirects included.
        attempts: how often a download is tried whose error is transient.
        private_hosts: names that may lead to a private address; True for all of them.
    """

    max_bytes: int
    timeout_s: float
    attempts: int
    private_hosts: bool | tuple[str, ...] = False


class _TransientError(Exception):
    """A transient error; its argument is what the row says when it persists."""

    def __init__(self, error: RowError) -> None:
        super().__init__(error)
        self.error = error


def download(url: str, limits: DownloadLimits) -> bytes:
    """Downloads the bytes at an http or https URL.

    Args:
        url: complete URL.
        limits: what the download may take.

    Raises:
        RowError: `source_missing`, `source_forbidden`, `source_too_large`, `source_timeout` or
            `source_unreachable`.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(_TransientError),
        wait=wait_random_exponential(multiplier=0.3, max=10),
        stop=stop_after_attempt(limits.attempts),
        reraise=True,
    )
    try:
        return retrying(_attempt, url, limits)
    except _TransientError as error:
        raise error.error from error


def _attempt(url: str, limits: DownloadLimits) -> bytes:
    deadline = time.monotonic() + limits.timeout_s
    for _ in range(_MAX_REDIRECTS + 1):
        response = _get(_split(url), deadline, limits)
        if isinstance(response, bytes):
            return response
        url = urljoin(url, response)
    raise RowError("source_unreachable", f"the URL redirects more than {_MAX_REDIRECTS} times")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_complete = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_complete = is_complete and (parts.port is None or 0 < parts.port < 65536)
    except ValueError:
        is_complete, parts = False, SplitResult("", "", "", "", "")
    if not is_complete:
        raise RowError("source_forbidden", "the URL is not a complete http or https URL")
    return parts


def _get(url: SplitResult, deadline: float, limits: DownloadLimits) -> bytes | str:
    """Returns the bytes of a response, or the location that it redirects to."""
    try:
        with _connected(url, deadline, limits) as connection:
            response = _exchange(connection, url, limits)
    except TimeoutError as error:
        raise _late(limits) from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        if time.monotonic() >= deadline:
            raise _late(limits) from error
        message = f"the host cannot be reached: {type(error).__name__}"
        raise _TransientError(RowError("source_unreachable", message)) from error
    if time.monotonic() >= deadline:
        # A response of unknown length ends where it is cut off.
        raise _late(limits)
    return response


def _late(limits: DownloadLimits) -> _TransientError:
    message = f"no complete answer within {limits.timeout_s:g} s"
    return _TransientError(RowError("source_timeout", message))


@contextmanager
def _connected(
    url: SplitResult, deadline: float, limits: DownloadLimits
) -> Generator[http.client.HTTPConnection, None, None]:
    """Yields a connection to a checked address, which is cut off at the deadline in any case."""
    host = url.hostname or ""
    port = url.port or (443 if url.scheme == "https" else 80)
    hosts = limits.private_hosts
    allow_private = hosts if isinstance(hosts, bool) else host in map(str.lower, hosts)
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    connected = addresses.connect(host, port, left_s, allow_private=allow_private)
    # A time limit of the socket starts anew with every byte: a trickle would never end.
    cutter = _Cutter(connected, deadline)
    try:
        if url.scheme == "https":
            connection = http.client.HTTPSConnection(host, port)
            cutter.sock = ssl.create_default_context().wrap_socket(
                connected, server_hostname=host, do_handshake_on_connect=False
            )
            cutter.sock.do_handshake()
        else:
            connection = http.client.HTTPConnection(host, port)
        connection.sock = cutter.sock
        yield connection
    finally:
        cutter.close()


class _Cutter:
    """Cuts a connection off at a deadline."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self.sock: Any = connected
        self._alarm = threading.Timer(max(0.0, deadline - time.monotonic()), self._cut)
        self._alarm.daemon = True
        self._alarm.start()

    def close(self) -> None:
        self._alarm.cancel()
        self.sock.close()

    def _cut(self) -> None:
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


def _exchange(
    connection: http.client.HTTPConnection, url: SplitResult, limits: DownloadLimits
) -> bytes | str:
    connection.request("GET", _target(url), headers=_HEADERS)
    response = connection.getresponse()
    location = response.getheader("Location")
    if response.status in _REDIRECTS and location:
        return location
    _check_status(response.status)
    declared = response.length
    if declared is not None and declared > limits.max_bytes:
        raise _too_large(limits.max_bytes)
    data = _read(response, limits.max_bytes)
    # http.client takes a cut connection for the end of the response.
    if declared is not None and len(data) < declared:
        raise http.client.IncompleteRead(data, declared - len(data))
    return data


def _target(url: SplitResult) -> str:
    """Returns path and query as a request line takes them: no spaces, no letters beyond ASCII."""
    target = quote(url.path or "/", safe="/%:@!$&'()*+,;=~-._")
    return f"{target}?{quote(url.query, safe='/%:@!$&()*+,;=~-._?')}" if url.query else target


def _check_status(status: int) -> None:
    if status == 200:
        return
    if status in _MISSING:
        raise RowError("source_missing", f"the URL answers {status}")
    if status in _FORBIDDEN:
        raise RowError("source_forbidden", f"the URL answers {status}")
    error = RowError("source_unreachable", f"the URL answers {status}")
    if status in _TRANSIENT or status >= 500:
        raise _TransientError(error)
    raise error


def _too_large(max_bytes: int) -> RowError:
    return RowError("source_too_large", f"more than max_bytes = {max_bytes} bytes")


def _read(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    left = max_bytes
    while part := response.read(min(_CHUNK_BYTES, left + 1)):
        left -= len(part)
        if left < 0:
            raise _too_large(max_bytes)
        parts.append(part)
    return b"".join(parts)
