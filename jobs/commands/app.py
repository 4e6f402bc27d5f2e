"""The command line with all of its commands."""

from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules

from cyclopts import App, CycloptsError
from overpaint.jobs import commands
from overpaint.pipeline.errors import UsageError

app = App(
    name="overpaint",
    help="Edits image datasets with diffusion models, on Ray.",
    suppress_keyboard_interrupt=False,
)
for found in iter_modules(commands.__path__, f"{commands.__name__}."):
    # A module of commands adds them by its `register`; the others are what those share.
    if register := getattr(import_module(found.name), "register", None):
        register(app)


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code.

    Args:
        arguments: arguments of the command; None takes those of the process.

    Raises:
        UsageError: there is no such command or option, or a value is wrong.
    """
    try:
        result = app(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        raise UsageError(" ".join(str(error).split())) from error
    return result if isinstance(result, int) else 0
