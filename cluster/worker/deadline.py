"""End of a process that hangs: a model that does not come back cannot be interrupted.

One thread watches all deadlines. A timer for each body would be a thread that the body's thread
starts, and one that is interrupted as it starts another (`ModelThread.close`) can wait for that one
for ever: CPython raises the interrupt in the newborn, which still has its starter's number.
"""

import os
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from itertools import count

_EXIT_CODE = 70


class _Watch:
    """Deadlines of bodies under way, and the thread that watches them."""

    def __init__(self) -> None:
        self._ends: dict[int, tuple[float, str]] = {}
        self._numbers = count()
        self._changed = threading.Condition()
        threading.Thread(target=self._serve, name="deadlines", daemon=True).start()

    def add(self, end_s: float, reason: str) -> int:
        """Adds a deadline, and returns its number.

        Args:
            end_s: time of the monotonic clock at which the process ends.
            reason: sentence that it then says.
        """
        with self._changed:
            number = next(self._numbers)
            self._ends[number] = (end_s, reason)
            self._changed.notify()
        return number

    def remove(self, number: int) -> None:
        """Removes a deadline that was kept."""
        with self._changed:
            self._ends.pop(number, None)

    def _serve(self) -> None:
        with self._changed:
            while True:
                first = min(self._ends.values(), default=None)
                left_s = None if first is None else first[0] - time.monotonic()
                if first is not None and left_s is not None and left_s <= 0:
                    end_process(first[1])
                self._changed.wait(None if left_s is None else min(left_s, threading.TIMEOUT_MAX))


@cache
def watch() -> _Watch:
    """Returns the one watch of this process, whose thread is started at the first call."""
    return _Watch()


@contextmanager
def deadline(seconds: float, name: str) -> Generator[None]:
    """Ends the process when its body takes longer.

    Args:
        seconds: most that the body may take.
        name: word for what it does.
    """
    reason = f"{name} took longer than {seconds:g} s"
    number = watch().add(time.monotonic() + seconds, reason)
    try:
        yield
    finally:
        watch().remove(number)


def end_process(reason: str) -> None:
    """Ends this process at once, as a crash does.

    Ray replaces an actor that crashed and runs its task again; one that exits in an orderly way is
    never replaced.
    """
    sys.stderr.write(f"overpaint: the worker ends itself: {reason}\n")
    sys.stderr.flush()
    os._exit(_EXIT_CODE)
