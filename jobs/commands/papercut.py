"""papercut: the drawn world."""

from typing import Annotated

from cyclopts import App, Parameter
from overpaint.jobs.commands.output import console
from overpaint.jobs.options import NewFile, NewFolder
from overpaint.jobs.papercut.conditions import CONDITIONS
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.jobs.papercut.sheet import dataset_sheet
from overpaint.pipeline.edit_types import EDIT_TYPES
from overpaint.pipeline.errors import UsageError
from PIL import Image

_WITH_HELP = (
    "A list of what can steer an edit beside its words, in columns and files of its own: "
    f"{', '.join(CONDITIONS.names())}; or `all`."
)


def register(app: App) -> None:
    """Adds the command to the app."""
    app.command(papercut)


def papercut(
    out: NewFolder,
    *,
    rows: Annotated[int, Parameter(name="--rows")],
    seed: int = 0,
    edit_types: str = "color,replace",
    conditions: Annotated[str, Parameter(name="--with", help=_WITH_HELP, show_default=False)] = "",
    sheet: NewFile | None = None,
) -> int:
    """Writes a folder of drawn images with rows.jsonl: instructions, masks, and the true edits.

    Args:
        out: The folder to write; it must be empty or absent.
        rows: How many edits, each of its own image.
        seed: Another seed gives other scenes.
        edit_types: A list such as color,replace, or `all` for the twelve.
        conditions: Some of the conditions that there are, or `all`.
        sheet: A picture file to draw the first rows into, with their conditions, such as rows.png.
    """
    types = list(EDIT_TYPES) if edit_types == "all" else edit_types.split(",")
    wanted = conditions.split(",") if conditions else []
    if sheet is not None and sheet.suffix.lower() not in Image.registered_extensions():
        raise UsageError(f"--sheet {sheet}: no picture format; name one such as rows.png")
    try:
        write_dataset(out, rows=rows, seed=seed, edit_types=types, conditions=wanted)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if sheet is not None:
        dataset_sheet(out).save(sheet, optimize=True)
    console.print(f"wrote {rows} edits to {out}/rows.jsonl")
    return 0
