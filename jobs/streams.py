"""Standard streams that cannot end a command: nobody may be reading what it prints.

A reader may have gone (`| head -1`), the terminal may be closed, the disk of a log may be full, and
a scheduler may have closed the stream before the command began. What is printed then is lost; what
is done goes on.
"""

import io
import os
import select
import sys
from typing import TextIO

_lost: set[int] = set()


class _LastingFile(io.FileIO):
    """File of a standard stream; writing to it never raises."""

    def write(self, data: object, /) -> int:
        """Writes all of `data`, or drops it where nobody can be written to."""
        left = memoryview(data).cast("B")  # type: ignore[arg-type]
        size = len(left)
        try:
            while left:
                written = super().write(left)
                if written is None:  # a stream that is not blocking, and full
                    select.select([], [self.fileno()], [])
                left = left[written or 0 :]
        except OSError:
            _lost.add(self.fileno())
        return size


def secure_streams() -> None:
    """Opens the standard streams that are closed, and makes those for output lasting ones.

    To be called before any file is opened, which would otherwise get the number of a closed stream
    and then what libraries print to it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
            _lost.add(number)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = _lasting(1, sys.stdout)
    sys.stderr = _lasting(2, sys.stderr)


def is_heard() -> bool:
    """Tells whether somebody may still read what is printed."""
    return 1 not in _lost


def _lasting(number: int, stream: TextIO | None) -> TextIO:
    """Returns a stream like the given one; a letter that it cannot write is escaped."""
    is_given = isinstance(stream, io.TextIOWrapper)
    errors = stream.errors if is_given and stream.errors != "strict" else "backslashreplace"
    return io.TextIOWrapper(
        io.BufferedWriter(_LastingFile(number, "w", closefd=False)),
        encoding=stream.encoding if is_given else "utf-8",
        errors=errors,
        line_buffering=stream.line_buffering if is_given else True,
        write_through=stream.write_through if is_given else False,
    )
