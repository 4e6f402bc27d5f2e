"""papercut: the drawn world."""

from typing import Annotated

from cyclopts import App, Parameter
from overpaint.jobs.commands.output import console
from overpaint.jobs.options import NewFolder
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.jobs.papercut.edits import EDIT_TYPES
from overpaint.pipeline.errors import UsageError


def register(app: App) -> None:
    """Adds the command to the app."""
    app.command(papercut)


def papercut(
    out: NewFolder,
    *,
    rows: Annotated[int, Parameter(name="--rows")],
    seed: int = 0,
    edit_types: str = "color,replace",
) -> int:
    """Writes a folder of drawn images with rows.jsonl: instructions, masks, and the true edits.

    Args:
        out: The folder to write; it must be empty or absent.
        rows: How many edits, each of its own image.
        seed: Another seed gives other scenes.
        edit_types: A list such as color,replace, or `all` for the twelve.
    """
    types = list(EDIT_TYPES) if edit_types == "all" else edit_types.split(",")
    try:
        write_dataset(out, rows=rows, seed=seed, edit_types=types)
    except ValueError as error:
        raise UsageError(str(error)) from error
    console.print(f"wrote {rows} edits to {out}/rows.jsonl")
    return 0
