"""status, report, recipes, operators, doctor: the commands that only look."""

import json
import time
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from overpaint.jobs import doctor as doctoring
from overpaint.jobs.recipes import description, read_recipe, shipped
from overpaint.jobs.report.contact_sheet import contact_sheet
from overpaint.jobs.report.report import write_report
from overpaint.jobs.runs.status import run_status
from overpaint.pipeline.catalogue import OPERATORS
from overpaint.pipeline.recipe import recipe_schema
from overpaint.pipeline.runs.folder import REPORT, RunFolder
from overpaint.pipeline.runs.record import RunRecord
from overpaint.pipeline.storage.store import Storage
from overpaint.pipeline.storage.uris import normalise
from rich.console import Console
from rich.table import Table

console = Console(soft_wrap=True, highlight=False, markup=False)
_WATCH_EVERY_S = 2.0


def register(app: App) -> None:
    """Adds these commands to the app."""
    for command in (status, report, recipes, operators, doctor):
        app.command(command)


def _folder(output: str) -> RunFolder:
    return RunFolder(Storage(normalise(output)))


def status(
    output: str,
    *,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    watch: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Shows how a run stands, from its folder alone.

    Args:
        output: The run folder.
        as_json: Print JSON.
        watch: Print again every two seconds until the run is done.
    """
    while True:
        found = run_status(_folder(output))
        if as_json:
            print(json.dumps(found), flush=True)
        else:
            counts = ", ".join(
                f"{found[name]} {name}" for name in ("accepted", "rejected", "failed", "pending")
            )
            console.print(f"{found['name']}: {found['planned']} planned: {counts}")
            for code, rows in sorted(found["error_codes"].items()):
                console.print(f"  {code}: {rows}")
        if not watch or found["done"]:
            return 0
        time.sleep(_WATCH_EVERY_S)


def report(output: str, *, sheet: Path | None = None) -> int:
    """Writes the report of a run again.

    Args:
        output: The run folder.
        sheet: A picture file to draw some accepted edits into, such as edits.png.
    """
    folder = _folder(output)
    RunRecord.read(folder)
    write_report(folder)
    if sheet is not None:
        contact_sheet(folder).save(sheet)
    console.print(folder.storage.at(REPORT))
    return 0


def recipes(
    name: str | None = None, *, schema: Annotated[bool, Parameter(negative="")] = False
) -> int:
    """Lists the shipped recipes, or prints one.

    Args:
        name: Of the recipe to print.
        schema: Print the JSON Schema of recipes.
    """
    if schema:
        print(json.dumps(recipe_schema(), indent=2))
    elif name is not None:
        print(read_recipe(name)[0], end="")
    else:
        table = Table("recipe", "what it does", box=None)
        for recipe, text in shipped().items():
            table.add_row(recipe, description(text))
        console.print(table)
    return 0


def operators(name: str | None = None) -> int:
    """Lists the operators, or the fields of one.

    Args:
        name: Of an operator, or my_package.module:ClassName.
    """
    if name is None:
        table = Table("operator", "kind", "what it does", box=None)
        for known in OPERATORS.names():
            kind = OPERATORS.find(known)
            table.add_row(known, kind.kind, (kind.__doc__ or "").split("\n", 1)[0])
        console.print(table)
        return 0
    table = Table("field", "default", "meaning", box=None)
    for field, info in OPERATORS.find(name).model_fields.items():
        default = "required" if info.is_required() else json.dumps(info.default, default=str)
        table.add_row(field, default, " ".join((info.description or "").split()))
    console.print(table)
    return 0


def doctor(*, output: str | None = None) -> int:
    """Looks at what is installed, the GPUs and the storage, and says how to mend what is missing.

    Args:
        output: A folder or URL where a run would write; tried with one small object.
    """
    findings = doctoring.examine(output)
    table = Table("", "what", "found", "do this", box=None)
    for finding in findings:
        table.add_row("ok" if finding.is_fine else "!!", finding.what, finding.found, finding.mend)
    console.print(table)
    for line in doctoring.next_steps():
        console.print(line)
    return 0 if all(finding.is_fine or finding.is_optional for finding in findings) else 1
