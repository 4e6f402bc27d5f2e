"""Repairs what `verify` finds: removes what belongs to no row, and reopens rows at fault.

Rows at fault become pending, as `redrive` makes failed ones pending; the run's own command then
makes them again. A repair that is killed leaves a run that another repair or the run's own command
goes on with.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa
from overpaint.jobs.runs.redrive import reopen_run, reset_part
from overpaint.jobs.verify.findings import Findings, Problem
from overpaint.jobs.verify.verify import PartCheck, Scan, leftovers
from overpaint.pipeline.runs.folder import PLANNED, SUCCESS, WORK, RunFolder
from overpaint.pipeline.runs.lease import LEASE, LeaseTimings, acquire_lease
from overpaint.pipeline.runs.record import existing_run
from overpaint.pipeline.runs.run import Run
from overpaint.pipeline.storage.packed import packed_address

_WHOLE_PART = {"missing_part", "unreadable_part", "wrong_schema"}
_OBJECT = {"missing_object", "wrong_hash"}
"""Kinds whose file is removed, unless it is a shard, which may have pictures of other rows."""
_REMOVED = {"orphan", "unplanned_part"}


@dataclass
class RepairResult:
    """The result of a repair.

    Attributes:
        findings: problems of the run folder before the repair.
        removed: number of removed files: orphans, and objects with the wrong bytes.
        pending: number of rows that are to be made again.
        is_planned_again: True where the run's command will write the plan again, from its input.
        is_finished: True where nothing is left to do.
    """

    findings: Findings = field(default_factory=Findings)
    removed: int = 0
    pending: int = 0
    is_planned_again: bool = False
    is_finished: bool = True


def repair(folder: RunFolder, timings: LeaseTimings | None = None) -> RepairResult:
    """Repairs a run folder as far as that is possible without the run's models.

    Args:
        folder: run folder to repair.
        timings: timing of the lease that keeps runners out during the repair.

    Raises:
        UsageError: the folder holds no run, or a runner is at work on it.
    """
    scan, run = Scan(folder), existing_run(folder)
    with acquire_lease(folder, timings):
        result = _repair(scan, run)
        if result.is_finished and folder.read_json(SUCCESS) is not None:
            _remove(folder, leftovers(folder))
            folder.storage.remove_tree(WORK, but=LEASE)
    return result


def _repair(scan: Scan, run: Run) -> RepairResult:
    result, folder = RepairResult(), run.folder
    if plan_problems := _record(result, scan.plan()):
        # A wrong plan does not tell which parts and rows belong to the run: they stay as they are.
        folder.storage.remove([SUCCESS, PLANNED])
        result.is_planned_again = True
    for part in scan.parts():
        if _record(result, part.problems) and not plan_problems:
            result.pending += _reopen(run, part)
            result.removed += _remove(folder, _wrong_objects(part))
    rest = _record(result, scan.rest())
    if not plan_problems:
        paths = (problem.path for problem in rest if problem.kind in _REMOVED)
        result.removed += _remove(folder, paths)
        if any(problem.kind == "wrong_success" for problem in rest):
            reopen_run(folder)
    result.removed += result.findings.counts["leftover"]
    result.is_finished = folder.read_json(SUCCESS) is not None
    return result


def _record(result: RepairResult, problems: Iterable[Problem]) -> list[Problem]:
    """Adds problems to a result; returns them as a list."""
    listed = list(problems)
    for problem in listed:
        result.findings.add(problem)
    return listed


def _reopen(run: Run, part: PartCheck) -> int:
    """Takes a part of the manifest apart; returns how many of its rows are pending again."""
    planned = run.folder.read_part("plan", part.number, ["key"])["key"].to_pylist()
    wrong = {problem.key for problem in part.problems}
    if _WHOLE_PART & {problem.kind for problem in part.problems}:
        reset_part(run, part.number, None)
        return len(planned)
    table = run.folder.read_part("manifest", part.number)
    sound = set(planned) - wrong
    kept = table.filter(pa.array([key in sound for key in table["key"].to_pylist()]))
    reset_part(run, part.number, kept)
    return len(planned) - kept.num_rows


def _wrong_objects(part: PartCheck) -> list[str]:
    wrong = [problem.path for problem in part.problems if problem.kind in _OBJECT]
    return [path for path in wrong if packed_address(path) is None]


def _remove(folder: RunFolder, paths: Iterable[str]) -> int:
    """Removes files of a run; returns how many paths were named."""
    listed = list(paths)
    folder.storage.remove(listed)
    return len(listed)
