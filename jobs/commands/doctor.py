"""doctor: looks at the machine and the storage."""

from cyclopts import App
from overpaint.jobs.commands.output import console
from overpaint.jobs.doctor import examine, next_steps
from overpaint.jobs.options import Uri
from rich.table import Table


def register(app: App) -> None:
    """Adds the command to the app."""
    app.command(doctor)


def doctor(*, output: Uri | None = None) -> int:
    """Looks at what is installed, the GPUs and the storage; says how to repair what is missing.

    Args:
        output: A folder or URL where a run would write; tried with one small object.
    """
    checks = examine(output)
    table = Table("", "what", "state", "do this", box=None)
    for check in checks:
        table.add_row("ok" if check.is_fine else "!!", check.subject, check.state, check.advice)
    console.print(table)
    for line in next_steps():
        console.print(line)
    return 0 if all(check.is_fine or check.is_optional for check in checks) else 1
