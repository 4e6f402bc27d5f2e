"""Signals that stop a command: Ctrl-C, a SIGTERM of a cluster or job server, a closed terminal.

The first one raises `KeyboardInterrupt` in the main thread, and only the first: one that comes
while the command is stopping must not cut its clean end short. An interrupt that is raised while a
library is in a callback can be swallowed there; so it is also remembered, and a run looks for it
after each task. The third Ctrl-C ends the process at once; storage is then as after a `kill -9`.
"""

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

STOPPED = 3
"""Exit code of what stopped early."""
_AT_ONCE = 3
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Signals:
    """Signals that came since the command began."""

    def __init__(self) -> None:
        self.has_come = False
        self.is_held = False
        self.ctrl_cs = 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Notes a signal, and raises `KeyboardInterrupt` for the first."""
        del frame
        self.ctrl_cs += number == signal.SIGINT
        if self.ctrl_cs >= _AT_ONCE:
            os._exit(STOPPED)
        is_first, self.has_come = not self.has_come, True
        if is_first and not self.is_held:
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            _say("overpaint: stopping; the third Ctrl-C ends it at once\n")


_signals = _Signals()


@contextmanager
def stopping_on_signals() -> Generator[None]:
    """Makes the first signal in the body raise `KeyboardInterrupt` in the main thread.

    A SIGHUP that is ignored, as by `nohup`, stays ignored.
    """
    global _signals
    _signals = _Signals()
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    handlers = {
        number: signal.signal(number, _signals.handle)
        for number in _NUMBERS
        if number not in ignored
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def hold_signals() -> None:
    """Makes signals be noted and no longer raised: the command has come to its end."""
    _signals.is_held = True


def was_interrupted() -> bool:
    """Tells whether a signal has come, also one whose interrupt was swallowed."""
    return _signals.has_come


def raise_if_interrupted() -> None:
    """Raises `KeyboardInterrupt` where a signal has come, also one that was swallowed."""
    if was_interrupted():
        raise KeyboardInterrupt


def _say(words: str) -> None:
    """Writes to the terminal past Python's streams, which the interrupted code may hold."""
    try:
        os.write(2, words.encode())
    except OSError:
        return
