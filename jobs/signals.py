"""A polite kill is a Ctrl-C: clusters and job servers stop a driver with SIGTERM."""

import signal
from types import FrameType


def stop_on_sigterm() -> None:
    """Makes SIGTERM raise `KeyboardInterrupt` in the main thread, as SIGINT does."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
