"""End of a process that hangs: a model that does not come back cannot be interrupted."""

import os
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager

_EXIT_CODE = 70


@contextmanager
def deadline(seconds: float, name: str) -> Generator[None]:
    """Ends the process when its body takes longer.

    Args:
        seconds: most that the body may take.
        name: word for what it does.
    """
    timer = threading.Timer(seconds, end_process, (f"{name} took longer than {seconds:g} s",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def end_process(reason: str) -> None:
    """Ends this process at once, as a crash does.

    Ray replaces an actor that crashed and runs its task again; one that exits in an orderly way is
    never replaced.
    """
    sys.stderr.write(f"overpaint: the worker ends itself: {reason}\n")
    sys.stderr.flush()
    os._exit(_EXIT_CODE)
