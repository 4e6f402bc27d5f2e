"""Trace of a fault of Overpaint, in a file of its own: for who mends it, not for the terminal."""

import platform
import tempfile
import traceback
from importlib.metadata import version


def write_trace(error: BaseException) -> str:
    """Writes the trace of an error to a new file in the folder for temporary files.

    The command line is not in it: its URLs can hold secrets.

    Returns:
        The path of the file.

    Raises:
        OSError: no file can be written.
    """
    about = f"overpaint {version('overpaint')}, Python {platform.python_version()}"
    trace = "".join(traceback.format_exception(error))
    with tempfile.NamedTemporaryFile(
        "w", prefix="overpaint-fault-", suffix=".txt", delete=False, errors="backslashreplace"
    ) as file:
        file.write(f"{about}, {platform.platform()}\n\n{trace}")
    return file.name
