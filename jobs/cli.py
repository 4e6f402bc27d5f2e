"""Command line of Overpaint, and the one place that turns errors into words and exit codes.

Exit codes: 0 every row is accounted for; 1 a check found something; 2 the recipe, input or an
option is wrong and nothing was started; 3 stopped early, the same command goes on; 4 the error
budget was exceeded; 5 a fault of Overpaint itself.

Only what is needed to end well is loaded with this module: from then on a Ctrl-C ends with words.
"""

import errno
import os
import sys
from collections.abc import Sequence

from overpaint.jobs.signals import (
    STOPPED,
    hold_signals,
    raise_if_interrupted,
    stopping_on_signals,
    was_interrupted,
)
from overpaint.jobs.streams import secure_streams

_USAGE = 2
_FAULT = 5
_OF_THE_MACHINE = {
    *(errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOMEM),
    *(errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOTCONN),
}
"""Errors of a disk or a system that fails, whoever asks it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code.

    Args:
        arguments: arguments of the command; None takes those of the process, which then ends here.
    """
    if arguments is None:
        secure_streams()
    with stopping_on_signals():
        code = _run(arguments)
        if arguments is None:
            # Threads of Ray's core sometimes abort an interpreter that shuts down, after the run is
            # done and Ray is left; the abort would take the place of the exit code.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return code


def _run(arguments: Sequence[str] | None) -> int:
    try:
        try:
            from overpaint.jobs.commands.app import run_command

            raise_if_interrupted()
            return run_command(arguments)
        finally:
            hold_signals()
    except BaseException as error:  # noqa: BLE001  the boundary between a command and its caller
        code, words = _ending(error)
        print(f"overpaint: {words}", file=sys.stderr)
        return code


def _ending(error: BaseException) -> tuple[int, str]:
    """Returns the exit code of an error, and its sentence."""
    # After a signal any error is its work: an import that was cut short fails as an import.
    if was_interrupted() or isinstance(error, KeyboardInterrupt):
        return STOPPED, "stopped; nothing is lost, the same command goes on from here"
    code = getattr(error, "exit_code", _FAULT)
    if code != _FAULT:
        return code, str(error)
    if isinstance(error, PermissionError):
        advice = "the permissions" if error.filename else "the credentials"
        return _USAGE, f"access is refused: {error}: check {advice}"
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        return STOPPED, f"stopped: {error}; the same command goes on once that is mended"
    return _FAULT, _fault(error)


def _fault(error: BaseException) -> str:
    """Writes the trace of a fault to a file, and returns the sentence that names the file."""
    from overpaint.jobs.traces import write_trace

    what = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    try:
        place = f"in {write_trace(error)}"
    except OSError as reason:
        sys.excepthook(type(error), error, error.__traceback__)
        place = f"above, since it could not be written ({reason})"
    return f"a fault of Overpaint: {what}; nothing that is stored is lost; the trace is {place}"


if __name__ == "__main__":
    sys.exit(main())
