"""Executing a run that is planned: take what remains through a runner, finish it, check the ledger.

The same call goes on with a run that stopped: the plan is in the run folder, and what remains is
derived from it.
"""

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import pyarrow as pa
from overpaint.cluster.worker.group import Trace
from overpaint.jobs.report.report import ManifestSummary, summarise_manifest, write_report
from overpaint.jobs.runs.update import remove_unreferenced
from overpaint.jobs.signals import raise_if_asked
from overpaint.pipeline.errors import BudgetError, OverpaintError
from overpaint.pipeline.runs.folder import PLANNED, REPORT, STATS, SUCCESS, WORK, RunFolder
from overpaint.pipeline.runs.lease import LEASE
from overpaint.pipeline.runs.manifest import Ledger, finish_part
from overpaint.pipeline.runs.record import current_versions
from overpaint.pipeline.runs.run import Run
from overpaint.pipeline.runs.tasks import Remaining, Task, remaining

Runner = Callable[[Run, Sequence[Task]], Iterable[pa.Table]]
"""Takes tasks through a plan and yields a summary of each as it is committed."""


class Display(Protocol):
    """Where a run shows how it goes."""

    def started(self, ledger: Ledger) -> None:
        """The run begins, with what an earlier one has done."""

    def advanced(self, ledger: Ledger, seconds: dict[str, float]) -> None:
        """A task was committed: the counts so far, and the seconds by stage so far."""


@dataclass
class Progress:
    """The counts of a run while it goes."""

    ledger: Ledger
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    rungs: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    rows: int = 0
    num_tasks: int = 0

    def add(self, summary: dict[str, Any]) -> int:
        """Counts a task; returns its number of rows."""
        counts = Ledger(0, *(summary[name] for name in ("accepted", "rejected", "failed")))
        trace = Trace.from_json(summary["trace_json"])
        self.ledger = self.ledger.plus(counts)
        self.rows += counts.ended
        self.num_tasks += 1
        for stage, taken in trace.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + taken
        for stage, rungs in trace.rungs.items():
            self.rungs[stage] = list(dict.fromkeys([*self.rungs.get(stage, []), *rungs]))
        return counts.ended


def execute(run: Run, runner: Runner, display: Display) -> ManifestSummary:
    """Takes what remains of a run to its end; the caller holds its lease.

    The manifest of a run that ends is read twice: for the summary, and for the report.

    Returns:
        The summary of the finished run's manifest.

    Raises:
        BudgetError: too many rows failed.
        OverpaintError: the ledger does not add up, which is a fault of Overpaint.
    """
    folder = run.folder
    left = None if folder.is_finished() else _execute(run, runner, display)
    summary = summarise_manifest(folder)
    if left is not None:
        _finish(run, left.ledger.planned, summary.ledger)
    if not folder.storage.exists(REPORT):
        write_report(folder, summary)
    folder.storage.remove_tree(WORK, but=LEASE)
    for name in ("images", "masks", "plan", "manifest"):
        folder.storage.remove_leftovers(name)
    return summary


def _execute(run: Run, runner: Runner, display: Display) -> Remaining:
    """Takes what remains through the runner; returns what remained."""
    left = remaining(run.folder, run.plan.task_rows)
    run = replace(run, cached_parts=left.cached_parts, idle_stages=left.idle_stages)
    progress = Progress(left.ledger)
    display.started(left.ledger)
    started_at = datetime.now(UTC)
    start = time.monotonic()
    try:
        _drive(run, left, runner, progress, display)
    finally:
        _write_stats(run.folder, progress, started_at, time.monotonic() - start)
    return left


def _drive(run: Run, left: Remaining, runner: Runner, progress: Progress, display: Display) -> None:
    pending = dict(left.pending)
    for part in [part for part, rows in pending.items() if rows == 0]:
        finish_part(run.folder, run.plan, part)
    if not left.tasks:
        return
    for summary in _summaries(runner(run, left.tasks)):
        pending[summary["part"]] -= progress.add(summary)
        if pending[summary["part"]] == 0:
            finish_part(run.folder, run.plan, summary["part"])
        display.advanced(progress.ledger, progress.seconds)
        raise_if_asked()
        ended = progress.ledger.ended - left.ledger.ended
        failed = progress.ledger.failed - left.ledger.failed
        if run.plan.budget.is_exceeded(ended, failed):
            raise BudgetError(
                f"{failed} of {ended} rows failed, more than "
                f"budget.max_failed_share = {run.plan.budget.max_failed_share:g}: "
                "`overpaint status` counts the causes; mend them and run the same command again"
            )


def _summaries(tables: Iterable[pa.Table]) -> Iterator[dict[str, Any]]:
    for table in tables:
        yield from table.to_pylist()


def _finish(run: Run, planned: int, ledger: Ledger) -> None:
    """Checks the ledger from storage, and marks the run as done; its report is to be written."""
    folder = run.folder
    planned_json: dict[str, Any] = folder.read_json(PLANNED) or {}
    planned = planned_json.get("planned", planned)
    if (
        folder.parts("manifest") != folder.parts("plan")
        or ledger.planned != planned
        or ledger.pending
    ):
        raise OverpaintError(
            f"the ledger does not add up: {planned} planned, {ledger.as_json()}: this is a fault "
            f"of Overpaint; the run folder is kept as it is"
        )
    remove_unreferenced(folder)
    folder.storage.remove([REPORT])
    folder.write_json(SUCCESS, {**ledger.as_json(), **planned_json})


def _write_stats(
    folder: RunFolder, progress: Progress, started_at: datetime, wall_s: float
) -> None:
    """Times and hosts, added to those of earlier sessions of the same run."""
    before: dict[str, Any] = folder.read_json(STATS) or {}
    stages: dict[str, Any] = before.get("stages", {})
    for stage, seconds in progress.seconds.items():
        old = stages.get(stage, {"seconds": 0.0, "rows": 0})
        rows = old["rows"] + progress.rows
        stages[stage] = {"seconds": round(old["seconds"] + seconds, 3), "rows": rows}
    total_s = before.get("wall_s", 0.0) + wall_s
    folder.write_json(
        STATS,
        {
            "ledger": progress.ledger.as_json(),
            "stages": stages,
            "lack_of_memory": {**before.get("lack_of_memory", {}), **progress.rungs},
            "wall_s": round(total_s, 3),
            "rows_per_s": round(progress.rows / wall_s, 3) if wall_s else None,
            "num_tasks": before.get("num_tasks", 0) + progress.num_tasks,
            "num_sessions": before.get("num_sessions", 0) + 1,
            "started_at": before.get("started_at", started_at.isoformat(timespec="seconds")),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": current_versions(),
            "hosts": sorted({*before.get("hosts", []), platform.node()}),
        },
    )
