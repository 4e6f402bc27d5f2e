"""verify: proves a run from storage alone, and with --repair mends it."""

from typing import Annotated

from cyclopts import App, Parameter
from overpaint.jobs.verify.findings import KINDS, Findings, Problem
from overpaint.jobs.verify.repair import RepairResult
from overpaint.jobs.verify.repair import repair as mend
from overpaint.jobs.verify.verify import verify as find_problems
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.manifest import Ledger
from overpaint.pipeline.runs.record import RunRecord
from overpaint.pipeline.storage.store import Storage
from overpaint.pipeline.storage.uris import normalise
from rich.console import Console
from rich.markup import escape
from rich.table import Table

console = Console(soft_wrap=True, highlight=False, markup=False)
_GOES_ON = 3


def register(app: App) -> None:
    """Adds these commands to the app."""
    app.command(verify)


def verify(output: str, *, repair: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Proves a run from storage alone: every row once, every object with its hash, no orphans.

    Args:
        output: The run folder.
        repair: Remove what belongs to no row, and make rows that are at fault pending again.
    """
    folder = RunFolder(Storage(normalise(output)))
    if repair:
        return _say_what_was_done(folder, mend(folder))
    ledger, findings = find_problems(folder)
    _say_what_is_wrong(findings, ledger)
    if not findings and not ledger.pending:
        console.print("every row is accounted for, every object is there with the right hash")
        return 0
    if findings:
        console.print(f"next: overpaint verify {output} --repair")
    return 1


def _say_what_is_wrong(findings: Findings, ledger: Ledger | None) -> None:
    if ledger is not None:
        console.print(", ".join(f"{number} {name}" for name, number in ledger.as_json().items()))
    if not findings:
        return
    table = Table("problem", "count", "what it is", box=None)
    table.add_column("such as", overflow="fold")
    for kind, number, examples in findings:
        table.add_row(kind, str(number), KINDS[kind], escape("\n".join(map(_name, examples))))
    console.print(table)


def _name(problem: Problem) -> str:
    return f"{problem.key} {problem.path}".strip()


def _say_what_was_done(folder: RunFolder, repaired: RepairResult) -> int:
    _say_what_is_wrong(repaired.findings, None)
    if not repaired.findings and repaired.is_finished:
        console.print("nothing to repair")
        return 0
    console.print(f"removed {repaired.removed} files; {repaired.pending} rows are to be made again")
    if repaired.is_planned_again:
        console.print("the plan is written again from the input; verify once more after that")
    if repaired.is_finished:
        return 0
    console.print(f"next: {escape(_command(folder))}")
    return _GOES_ON


def _command(folder: RunFolder) -> str:
    """The command that the run was started with, as far as its folder tells."""
    record = RunRecord.read(folder)
    words = ["overpaint run RECIPE", "--input", record.input, "--output", folder.storage.uri]
    if record.limit is not None:
        words += ["--limit", str(record.limit)]
    for old, new in record.mapping.items():
        words += ["--map", f"{old}={new}"]
    if record.base:
        words += ["--base", record.base]
    return f"{' '.join(words)}   (RECIPE: the one of {record.name!r}, with the same --set)"
