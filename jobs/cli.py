"""Command line of Overpaint, and the one place that turns errors into words and exit codes.

Exit codes: 0 every row accounted for; 2 the recipe, input or an option is wrong and nothing was
started; 3 stopped early, the same command goes on; 4 the error budget was exceeded.
"""

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError
from overpaint.jobs.commands import (
    bench,
    catalogue,
    doctor,
    finished,
    inspect,
    methods,
    papercut,
    plan,
    run,
    submit,
    verify,
)
from overpaint.jobs.signals import stop_on_signals
from overpaint.pipeline.errors import BudgetError, OverpaintError, UsageError
from rich.console import Console

app = App(
    name="overpaint",
    help="Edits image datasets with diffusion models, on Ray.",
    suppress_keyboard_interrupt=False,
)
_COMMANDS = (run, plan, submit, inspect, verify, finished, catalogue, methods, doctor, papercut)
for module in (*_COMMANDS, bench):
    module.register(app)

_STOPPED = 3
_errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code.

    Args:
        arguments: arguments of the command; None takes those of the process.
    """
    stop_on_signals()
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
        result = app(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
        return result if isinstance(result, int) else 0
    except (UsageError, CycloptsError) as error:
        _errors.print(f"overpaint: {str(error).strip()}")
        return 2
    except PermissionError as error:
        _errors.print(f"overpaint: access is refused: {error}: check the credentials")
        return 2
    except BudgetError as error:
        _errors.print(f"overpaint: {error}")
        return 4
    except KeyboardInterrupt:
        _errors.print("overpaint: stopped; nothing is lost, the same command goes on from here")
        return _STOPPED
    except OverpaintError as error:
        _errors.print(f"overpaint: {error}")
        return _STOPPED


if __name__ == "__main__":
    sys.exit(main())
