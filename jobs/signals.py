"""Signals that stop a run: a SIGTERM, as clusters and job servers send it, acts like a Ctrl-C.

An interrupt that is raised while a library is in a callback can be swallowed there; so it is also
remembered, and a run looks for it after each task.
"""

import signal
import threading
from types import FrameType

_interrupted = threading.Event()


def stop_on_signals() -> None:
    """Makes SIGINT and SIGTERM raise `KeyboardInterrupt` in the main thread, and be remembered."""
    _interrupted.clear()
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)


def raise_if_interrupted() -> None:
    """Raises `KeyboardInterrupt` where a signal has come, also one that was swallowed."""
    if _interrupted.is_set():
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    _interrupted.set()
    raise KeyboardInterrupt
