"""verify: proves a run from storage alone, and with --repair repairs it; or checks an export."""

import shlex

from cyclopts import App
from overpaint.jobs.commands.output import console, servers_sentence
from overpaint.jobs.export.exported import Exported
from overpaint.jobs.options import Flag, RunOptions, Uri
from overpaint.jobs.verify.exports import verify_export
from overpaint.jobs.verify.findings import KINDS, Findings, Problem
from overpaint.jobs.verify.repair import RepairResult
from overpaint.jobs.verify.repair import repair as repair_run
from overpaint.jobs.verify.verify import verify as find_problems
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.record import RunRecord
from rich.markup import escape
from rich.table import Table

_UNFINISHED = 3


def register(app: App) -> None:
    """Adds the command to the app."""
    app.command(verify)


def verify(output: Uri, *, repair: Flag = False) -> int:
    """Proves a run from storage alone: every row once, every object with its hash, no orphans.

    An export is read as its trainer would: what would be dropped, cut or misread is named.

    Args:
        output: The run folder, or the folder of an export.
        repair: Remove what belongs to no row, and make rows that are at fault pending again.
    """
    exported = Exported.find(output)
    if exported is not None:
        return _print_export(exported, repair=repair)
    folder = RunFolder.at(output)
    if repair:
        return _print_repair(folder, repair_run(folder))
    ledger, findings = find_problems(folder)
    console.print(", ".join(f"{number} {name}" for name, number in ledger.as_json().items()))
    _print_findings(findings)
    if not findings and not ledger.pending:
        console.print("every row is accounted for, every object is there with the right hash")
        return 0
    if findings:
        _print_servers(folder)
        console.print(f"next: overpaint verify {output} --repair")
    return 1


def _print_export(exported: Exported, *, repair: bool) -> int:
    if repair:
        raise UsageError("--repair does not belong to an export: remove it, and export again")
    check = verify_export(exported)
    for split, written in check.written.items():
        console.print(f"{split}: {written} examples written, {check.seen[split]} seen")
    for sentence in check.faults:
        console.print(sentence)
    if check.num_faults > len(check.faults):
        console.print(f"and {check.num_faults - len(check.faults)} more")
    if check.is_whole:
        console.print("a trainer sees every example as it was written")
    return 0 if check.is_whole else 1


def _print_findings(findings: Findings) -> None:
    if not findings:
        return
    table = Table("problem", "count", "what it is", box=None)
    table.add_column("such as", overflow="fold")
    for kind, number, examples in findings:
        table.add_row(kind, str(number), KINDS[kind], escape("\n".join(map(_name, examples))))
    console.print(table)


def _name(problem: Problem) -> str:
    return f"{problem.key} {problem.path}".strip()


def _print_repair(folder: RunFolder, result: RepairResult) -> int:
    _print_findings(result.findings)
    if not result.findings and result.is_finished:
        console.print("nothing to repair")
        return 0
    console.print(f"removed {result.removed} files; {result.pending} rows are to be made again")
    _print_servers(folder)
    if result.is_planned_again:
        console.print("the plan is written again from the input; verify once more after that")
    if result.is_finished:
        return 0
    console.print(f"next: {escape(_run_command(folder))}")
    return _UNFINISHED


def _print_servers(folder: RunFolder) -> None:
    """Says so where rows that are made again will not be the same."""
    try:
        stages = RunRecord.read(folder).plan(folder).unrepeatable()
    except UsageError:  # an earlier version's, which knew no such stage
        return
    if stages:
        console.print(f"rows that are made again get other pictures: {servers_sentence(stages)}")


def _run_command(folder: RunFolder) -> str:
    """Returns the command that the run was started with, as far as its folder tells."""
    record = RunRecord.read(folder)
    options = RunOptions(
        input=record.input,
        limit=record.limit,
        mapping=[f"{old}={new}" for old, new in record.mapping.items()],
        base=record.base,
        output=folder.storage.uri,
    )
    arguments = shlex.join(options.to_arguments())
    recipe = f"(RECIPE: the one of {record.name!r}, with the same --set)"
    return f"overpaint run RECIPE {arguments}   {recipe}"
