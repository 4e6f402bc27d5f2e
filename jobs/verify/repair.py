"""Mending what `verify` finds: what belongs to no row goes, and what is wrong is made again.

Rows at fault become pending, as `redrive` makes failed ones; the run's own command then makes them
anew. Killed at any point, a repair leaves a run that another repair or the run goes on with.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa
from overpaint.jobs.runs.redrive import keep_rows, unfinish
from overpaint.jobs.verify.findings import Findings, Problem
from overpaint.jobs.verify.verify import Part, Scan, leftovers
from overpaint.pipeline.runs.folder import PLANNED, SUCCESS, WORK, RunFolder
from overpaint.pipeline.runs.lease import LEASE, Timing, held
from overpaint.pipeline.runs.record import existing_run
from overpaint.pipeline.runs.run import Run

_WHOLE_PART = {"missing_part", "unreadable_part", "wrong_schema"}
_OBJECT = {"missing_object", "wrong_hash"}
_REMOVED = {"orphan", "unplanned_part"}


@dataclass
class Repaired:
    """What a repair did.

    Args:
        findings: what was wrong.
        removed: files that belonged to no row, or had the wrong bytes.
        pending: rows that are to be made again.
        is_planned_again: whether the run's command will write the plan anew, from its input.
        is_finished: whether nothing is left to do.
    """

    findings: Findings = field(default_factory=Findings)
    removed: int = 0
    pending: int = 0
    is_planned_again: bool = False
    is_finished: bool = True


def repair(folder: RunFolder, timing: Timing | None = None) -> Repaired:
    """Mends a run's folder as far as that goes without its models.

    Args:
        folder: of the run.
        timing: of the lease that keeps runners out meanwhile.

    Raises:
        UsageError: the folder holds no run, or a runner is at work on it.
    """
    scan, run = Scan(folder), existing_run(folder)
    with held(folder, timing):
        repaired = _mended(scan, run)
        if repaired.is_finished and folder.read_json(SUCCESS) is not None:
            _remove(folder, leftovers(folder))
            folder.storage.remove_tree(WORK, but=LEASE)
    return repaired


def _mended(scan: Scan, run: Run) -> Repaired:
    repaired, folder = Repaired(), run.folder
    if plan_problems := _noted(repaired, scan.plan()):
        # What a wrong plan says of parts and rows is no reason to touch them.
        folder.storage.remove([SUCCESS, PLANNED])
        repaired.is_planned_again = True
    for part in scan.parts():
        if _noted(repaired, part.problems) and not plan_problems:
            repaired.pending += _reopen(run, part)
            repaired.removed += _remove(folder, _wrong_objects(part))
    rest = _noted(repaired, scan.rest())
    if not plan_problems:
        paths = (problem.path for problem in rest if problem.kind in _REMOVED)
        repaired.removed += _remove(folder, paths)
        if any(problem.kind == "wrong_success" for problem in rest):
            unfinish(folder)
    repaired.removed += repaired.findings.counts["leftover"]
    repaired.is_finished = folder.read_json(SUCCESS) is not None
    return repaired


def _noted(repaired: Repaired, problems: Iterable[Problem]) -> list[Problem]:
    found = list(problems)
    for problem in found:
        repaired.findings.add(problem)
    return found


def _reopen(run: Run, part: Part) -> int:
    """Takes a part of the manifest apart; returns how many of its rows are pending again."""
    planned = run.folder.read_part("plan", part.number, ["key"])["key"].to_pylist()
    wrong = {problem.key for problem in part.problems}
    if _WHOLE_PART & {problem.kind for problem in part.problems}:
        keep_rows(run, part.number, None)
        return len(planned)
    table = run.folder.read_part("manifest", part.number)
    sound = set(planned) - wrong
    kept = table.filter(pa.array([key in sound for key in table["key"].to_pylist()]))
    keep_rows(run, part.number, kept)
    return len(planned) - kept.num_rows


def _wrong_objects(part: Part) -> list[str]:
    return [problem.path for problem in part.problems if problem.kind in _OBJECT]


def _remove(folder: RunFolder, paths: Iterable[str]) -> int:
    found = list(paths)
    folder.storage.remove(found)
    return len(found)
