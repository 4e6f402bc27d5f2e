"""Limits on requests to a server: at once, a minute and in a run; and waits for a busy one.

What asks one server shares one `RequestLimits` among its threads. A server that says that it is
busy (HTTP 429) is left alone by all of them for as long as it says: that is no failure of a row.
"""

import random
import threading
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from overpaint.pipeline.errors import StoppedError
from overpaint.pipeline.runs.folder import WORK, RunFolder

T = TypeVar("T")

_FIRST_WAIT_S = 0.3
_LONGEST_WAIT_S = 20.0
_LEAST_WAIT_S = 0.05
_LOOK_EVERY = 16


class BusyError(Exception):
    """Answer of a server that asks to be asked later.

    Args:
        wait_s: seconds that it asks for; None where it does not say.
    """

    def __init__(self, wait_s: float | None = None) -> None:
        super().__init__("the server is busy")
        self.wait_s = wait_s


class TransientError(Exception):
    """Failure of a request that may succeed a little later."""


class RequestLimits:
    """Limits that the threads of one actor share.

    Args:
        max_concurrency: most requests under way at once.
        max_per_minute: most requests that begin in a minute; None sets no limit.
        attempts: times that one request is made while its failures may be transient.
        patience_s: seconds that one request waits in all for a server that says it is busy.

    Example:
        >>> limits = RequestLimits(max_concurrency=8)
        >>> limits.ask(lambda: post(request))
    """

    def __init__(
        self,
        *,
        max_concurrency: int,
        max_per_minute: float | None = None,
        attempts: int = 4,
        patience_s: float = 300.0,
    ) -> None:
        self._places = threading.Semaphore(max_concurrency)
        self._interval_s = 60.0 / max_per_minute if max_per_minute else 0.0
        self._attempts = attempts
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._next_s = 0.0

    def ask(self, request: Callable[[], T]) -> T:
        """Makes a request in its turn, again while the server is busy or a failure may pass.

        Args:
            request: makes it once; raises `BusyError` or `TransientError` to be called again.

        Raises:
            BusyError: the server is busy for longer than `patience_s`.
            TransientError: the last of `attempts`.
        """
        num_failures, waited_s = 0, 0.0
        while True:
            try:
                with self._turn():
                    return request()
            except BusyError as error:
                wait_s = _backoff_s(4) if error.wait_s is None else error.wait_s
                wait_s = max(_LEAST_WAIT_S, wait_s)
                waited_s += wait_s
                self._pause(min(wait_s, self._patience_s))
                if waited_s > self._patience_s:
                    raise
            except TransientError:
                num_failures += 1
                if num_failures >= self._attempts:
                    raise
                time.sleep(_backoff_s(num_failures))

    @contextmanager
    def _turn(self) -> Generator[None]:
        with self._places:
            while (left_s := self._left_s()) > 0:
                time.sleep(left_s)
            yield

    def _left_s(self) -> float:
        """Returns the seconds until a request may begin; where it may now, the turn is taken."""
        with self._lock:
            now_s = time.monotonic()
            if now_s >= self._next_s:
                self._next_s = now_s + self._interval_s
                return 0.0
            return self._next_s - now_s

    def _pause(self, wait_s: float) -> None:
        with self._lock:
            self._next_s = max(self._next_s, time.monotonic() + wait_s)


class RequestBudget:
    """Number of requests that a run may make, counted in its folder until it ends.

    Every process keeps a count of its own there, so that neither a killed process nor a second
    actor spends more; actors look at each other's counts every few requests.

    Args:
        max_requests: most requests; None sets no limit and writes nothing.
        name: word for the server, for the counts of one stage not to be those of another.
    """

    def __init__(self, max_requests: int | None, name: str) -> None:
        self._max_requests = max_requests
        self._folder = f"{WORK}/requests/{name}"
        self._own = f"{self._folder}/{uuid.uuid4().hex}.json"
        self._lock = threading.Lock()
        self._sent = self._others = 0

    def spend(self, folder: RunFolder | None) -> None:
        """Counts a request that is about to be made.

        Args:
            folder: run folder; None counts in this process alone.

        Raises:
            StoppedError: the run has made as many as it may.
        """
        if self._max_requests is None:
            return
        with self._lock:
            if folder is not None and self._sent % _LOOK_EVERY == 0:
                self._others = self._sent_by_others(folder)
            if self._sent + self._others >= self._max_requests:
                raise StoppedError(
                    f"max_requests = {self._max_requests} requests are made; with a higher limit "
                    "the same command goes on"
                )
            self._sent += 1
            if folder is not None:
                folder.write_json(self._own, {"sent": self._sent})

    def _sent_by_others(self, folder: RunFolder) -> int:
        paths = [path for path in folder.storage.list(self._folder) if path != self._own]
        return sum(int((folder.read_json(path) or {"sent": 0})["sent"]) for path in paths)


def retry_after_s(value: str | None) -> float | None:
    """Returns the seconds that a `Retry-After` header asks for; None where it says nothing.

    Args:
        value: content of the header, a number of seconds or a date (RFC 9110).

    Example:
        >>> retry_after_s("12")
        12.0
    """
    text = (value or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _backoff_s(num_failures: int) -> float:
    """Returns a wait that doubles with each failure, drawn below its bound so that none agree."""
    longest_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**num_failures)
    return random.uniform(_LEAST_WAIT_S, longest_s)
