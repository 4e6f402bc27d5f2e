"""Surroundings of a Ray that this process starts: its folder, its standard error, its signals."""

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from overpaint.pipeline.errors import UsageError

_SOCKET_BYTES = 107
"""Longest path of a socket, which is a limit of the system."""
_LONGEST_SOCKET = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""Longest path that Ray makes below the folder for temporary files."""
MAX_FOLDER_BYTES = _SOCKET_BYTES - len(_LONGEST_SOCKET)
"""Longest path of the folder for temporary files that leaves room for Ray's sockets."""
_SHORT_FOLDER = "/tmp"
_PUT_BACK_EVERY_S = 0.002


def sessions_folder() -> str:
    """Returns the folder for the sessions of a local Ray.

    It is below the one for temporary files, or below `/tmp` where that path is too long for Ray's
    sockets, as those are that batch systems set.

    Raises:
        UsageError: the path is too long, and nothing may be written to `/tmp`.
    """
    folder, name = _temporary_folder(), overlong_variable()
    if name:
        if not os.access(_SHORT_FOLDER, os.W_OK | os.X_OK):
            raise UsageError(
                f"{name}={folder}: too long for Ray's sockets, and nothing may be written to "
                f"{_SHORT_FOLDER}: set RAY_TMPDIR to a path of at most {MAX_FOLDER_BYTES} bytes, "
                "or pass --no-ray"
            )
        folder = _SHORT_FOLDER
    return f"{folder.rstrip('/')}/ray"


def overlong_variable() -> str | None:
    """Names the variable whose folder for temporary files leaves no room for Ray's sockets."""
    if len(os.fsencode(_temporary_folder())) <= MAX_FOLDER_BYTES:
        return None
    return "RAY_TMPDIR" if os.environ.get("RAY_TMPDIR") else "TMPDIR"


def _temporary_folder() -> str:
    given = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or _SHORT_FOLDER
    return os.path.abspath(given)  # noqa: PTH100  not resolved: Ray takes it as it is written


@contextmanager
def own_signals() -> Generator[None]:
    """Keeps this process's handler of SIGTERM while Ray starts or ends.

    Ray puts handlers of its own in its place, which abort with a stack trace, and in the end leaves
    none, so that a second SIGTERM would kill. Ray does so in its core, out of sight: hence the
    handler is put back every few milliseconds.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    own = signal.getsignal(signal.SIGTERM)

    def put_back(number: int = 0, frame: FrameType | None = None) -> None:
        del number, frame
        signal.signal(signal.SIGTERM, own)

    alarm = signal.signal(signal.SIGALRM, put_back)
    timer = signal.setitimer(signal.ITIMER_REAL, _PUT_BACK_EVERY_S, _PUT_BACK_EVERY_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, alarm)
        put_back()


@contextmanager
def silent_stderr() -> Generator[None]:
    """Keeps off the terminal the line with which Ray's core repeats its log level.

    Ray's core writes it to the file descriptor; errors are raised as well.
    """
    terminal = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)
