"""The command line with all of its commands."""

from collections.abc import Sequence

from cyclopts import App, CycloptsError
from overpaint.jobs.commands import (
    bench,
    bench_pairs,
    catalogue,
    doctor,
    finished,
    inspect,
    methods,
    papercut,
    plan,
    run,
    submit,
    train,
    verify,
)
from overpaint.pipeline.errors import UsageError

app = App(
    name="overpaint",
    help="Edits image datasets with diffusion models, on Ray.",
    suppress_keyboard_interrupt=False,
)
_COMMANDS = (run, plan, submit, inspect, verify, finished, catalogue, methods, doctor, papercut)
for module in (*_COMMANDS, train, bench, bench_pairs):
    module.register(app)


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
