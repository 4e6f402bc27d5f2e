"""status, report: the commands that look at a run."""

import json
import time
from typing import Annotated, Any

from cyclopts import App, Parameter
from overpaint.jobs.commands.output import console
from overpaint.jobs.options import Flag, NewFile, Uri
from overpaint.jobs.report.contact_sheet import contact_sheet
from overpaint.jobs.report.report import write_report
from overpaint.jobs.runs.status import run_status, work_by_row
from overpaint.jobs.streams import is_heard
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.runs.folder import REPORT, RunFolder
from overpaint.pipeline.runs.record import RunRecord

_WATCH_EVERY_S = 2.0


def register(app: App) -> None:
    """Adds these commands to the app."""
    app.command(status)
    app.command(report)


def status(
    output: Uri,
    *,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    watch: Flag = False,
) -> int:
    """Shows how a run stands, from its folder alone.

    Args:
        output: The run folder.
        as_json: Print JSON.
        watch: Print again every two seconds until the run is done.
    """
    folder = RunFolder.at(output)
    while True:
        counts = run_status(folder)
        if as_json:
            print(json.dumps(counts), flush=True)
        else:
            _print_status(counts)
        if not watch or counts["done"] or not is_heard():
            return 0
        time.sleep(_WATCH_EVERY_S)


def _print_status(counts: dict[str, Any]) -> None:
    names = ("accepted", "rejected", "failed", "pending")
    by_status = ", ".join(f"{counts[name]} {name}" for name in names)
    console.print(f"{counts['name']}: {counts['planned']} planned: {by_status}")
    if work := work_by_row(counts["stats"] or {}, counts["accepted"]):
        console.print(f"  {work}")
    for code, num_rows in sorted(counts["error_codes"].items()):
        console.print(f"  {code}: {num_rows}")


def report(output: Uri, *, sheet: NewFile | None = None) -> int:
    """Writes the report of a run again.

    Args:
        output: The run folder.
        sheet: A picture file to draw some accepted edits into, such as edits.png.
    """
    folder = RunFolder.at(output)
    RunRecord.read(folder)
    write_report(folder)
    if sheet is not None:
        picture = contact_sheet(folder)
        try:
            picture.save(sheet)
        except ValueError as error:
            raise UsageError(f"--sheet {sheet}: {error}; name one such as edits.png") from error
    console.print(folder.storage.at(REPORT))
    return 0
