"""Execution of a planned run: remaining tasks go through a runner, then the ledger is checked.

The same call goes on with a run that stopped: the plan is in the run folder, and the remaining
tasks are derived from it.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol

import pyarrow as pa
from overpaint.cluster.ray.placement import check_fits, cluster_machines
from overpaint.cluster.ray.session import Session, connected
from overpaint.cluster.worker.batch_probe import find_batch_sizes
from overpaint.cluster.worker.in_process import run_local
from overpaint.jobs.report.report import ManifestSummary, summarise_manifest, write_report
from overpaint.jobs.runs.batch_sizes import Probe
from overpaint.jobs.runs.stats import Progress
from overpaint.jobs.runs.ticks import end_tick
from overpaint.jobs.runs.update import remove_unreferenced
from overpaint.jobs.signals import raise_if_interrupted
from overpaint.pipeline.errors import BudgetError, OverpaintError
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.folder import OBJECT_FOLDERS, PLANNED, REPORT, SUCCESS, WORK
from overpaint.pipeline.runs.lease import LEASE
from overpaint.pipeline.runs.manifest import Ledger, finish_part
from overpaint.pipeline.runs.run import Run
from overpaint.pipeline.runs.tasks import Remaining, Task, remaining

Runner = Callable[[Run, Sequence[Task]], Iterable[pa.Table]]
"""Function that takes tasks through a plan and yields a summary of each as it is committed."""


class Display(Protocol):
    """Context manager that shows how a run goes."""

    def __enter__(self) -> "Display":
        """Begins to show the run."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the display, whatever happened."""

    def noted(self, sentence: str) -> None:
        """Shows a sentence on what is read of the input."""

    def reopened(self, num_rows: int) -> None:
        """Shows how many failed rows are tried again."""

    def started(self, ledger: Ledger) -> None:
        """Shows what there is to do, and what an earlier session has done."""

    def advanced(self, ledger: Ledger, seconds: dict[str, float]) -> None:
        """Shows the counts after a task, and the seconds by stage so far."""


class SilentDisplay:
    """Display that shows nothing."""

    def __enter__(self) -> "SilentDisplay":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends nothing."""

    def noted(self, sentence: str) -> None:
        """Shows nothing."""

    def reopened(self, num_rows: int) -> None:
        """Shows nothing."""

    def started(self, ledger: Ledger) -> None:
        """Shows nothing."""

    def advanced(self, ledger: Ledger, seconds: dict[str, float]) -> None:
        """Shows nothing."""


@contextmanager
def connected_runner(plan: Plan, session: Session | None) -> Generator[Runner]:
    """Connects to Ray and yields what runs tasks there.

    Args:
        plan: plan that must fit the cluster.
        session: Ray to connect to; None runs every stage in this process.

    Raises:
        UsageError: no cluster answers, or the plan does not fit the one that does.
    """
    if session is None:
        yield run_local
        return
    # Ray takes seconds to import: commands that do not run rows do without.
    from overpaint.cluster.ray.stream import run_on_ray

    with connected(session):
        check_fits(plan, cluster_machines())
        yield run_on_ray


@contextmanager
def connected_probe(plan: Plan, session: Session | None) -> Generator[Probe]:
    """Connects to Ray and yields what finds batch sizes there; see `connected_runner`."""
    if session is None:
        yield find_batch_sizes
        return
    from overpaint.cluster.ray.batch_probe import find_batch_sizes_on_ray

    with connected(session):
        check_fits(plan, cluster_machines())
        yield find_batch_sizes_on_ray


def execute(
    run: Run, runner: Runner, display: Display, *, budget_gpu_hours: float | None = None
) -> ManifestSummary:
    """Takes the remaining tasks of a run to its end; the caller holds its lease.

    The manifest of a run that ends is read twice: for the summary, and for the report.

    Args:
        run: planned run.
        runner: runs its tasks.
        display: shows how the run goes.
        budget_gpu_hours: hours of reserved GPUs after which to stop; None for no limit.

    Returns:
        The summary of the finished run's manifest.

    Raises:
        BudgetError: too many rows failed.
        StoppedError: the budget of GPU-hours is spent.
        OverpaintError: the ledger does not add up, which is a fault of Overpaint.
    """
    folder = run.folder
    left = None if folder.is_finished() else _execute(run, runner, display, budget_gpu_hours)
    summary = summarise_manifest(folder)
    if left is not None:
        _finish(run, left.ledger.planned, summary.ledger)
    if not folder.storage.exists(REPORT):
        write_report(folder, summary)
    folder.storage.remove_tree(WORK, but=LEASE)
    for name in (*OBJECT_FOLDERS, "plan", "manifest"):
        folder.storage.remove_leftovers(name)
    return summary


def _execute(
    run: Run, runner: Runner, display: Display, budget_gpu_hours: float | None
) -> Remaining:
    """Takes the remaining tasks through the runner; returns what remained."""
    left = remaining(run.folder, run.plan.task_rows)
    run = replace(run, cached_parts=left.cached_parts, idle_stages=left.idle_stages)
    progress = Progress(left.ledger, budget_gpu_hours=budget_gpu_hours)
    display.started(left.ledger)
    try:
        _drive(run, left, runner, progress, display)
    finally:
        progress.write(run.folder)
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
        raise_if_interrupted()
        if progress.ledger.pending:
            progress.check_budget()
        _check_budget(run.plan, progress.rows, progress.ledger.failed - left.ledger.failed)


def _summaries(tables: Iterable[pa.Table]) -> Iterator[dict[str, Any]]:
    for table in tables:
        yield from table.to_pylist()


def _check_budget(plan: Plan, ended: int, failed: int) -> None:
    if plan.budget.is_exceeded(ended, failed):
        raise BudgetError(
            f"{failed} of {ended} rows failed, more than "
            f"budget.max_failed_share = {plan.budget.max_failed_share:g}: "
            "`overpaint status` counts the causes; repair them and run the same command again"
        )


def _finish(run: Run, planned: int, ledger: Ledger) -> None:
    """Checks the ledger from storage, and marks the run as finished; its report comes after."""
    folder = run.folder
    counts: dict[str, Any] = folder.read_json(PLANNED) or {}
    planned = counts.get("planned", planned)
    is_whole = folder.parts("manifest") == folder.parts("plan") and ledger.planned == planned
    if not is_whole or ledger.pending:
        raise OverpaintError(
            f"the ledger does not add up: {planned} planned, {ledger.as_json()}: the run folder is "
            "kept as it is"
        )
    remove_unreferenced(folder, is_packed=run.plan.is_packed)
    end_tick(folder, ledger)
    folder.storage.remove([REPORT])
    folder.write_json(SUCCESS, {**ledger.as_json(), **counts})
