"""A polite kill is a Ctrl-C: clusters and job servers stop a driver with SIGTERM.

An interrupt that is raised while a library is in a callback can be swallowed there; so it is also
remembered, and a run asks after each task.
"""

import signal
import threading
from types import FrameType

_asked = threading.Event()


def stop_on_signals() -> None:
    """Makes SIGINT and SIGTERM raise `KeyboardInterrupt` in the main thread, and be remembered."""
    _asked.clear()
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)


def raise_if_asked() -> None:
    """Raises `KeyboardInterrupt` where one was asked for and swallowed on its way."""
    if _asked.is_set():
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    _asked.set()
    raise KeyboardInterrupt
