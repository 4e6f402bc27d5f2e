"""A run, from recipe and input to manifest: plan it, take what remains through a runner, finish it.

The same call goes on with a run that stopped: the plan is in the run folder, and what remains is
derived from it.
"""

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Protocol

import pyarrow as pa
from overpaint.cluster.group import Run, Trace
from overpaint.jobs.report import write_report
from overpaint.jobs.signals import raise_if_asked
from overpaint.pipeline.errors import BudgetError, OverpaintError, UsageError
from overpaint.pipeline.identity import digest
from overpaint.pipeline.inputs import Input, read_input
from overpaint.pipeline.lease import held
from overpaint.pipeline.manifest import Ledger, finish_part, manifest_ledger
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.planning import write_plan
from overpaint.pipeline.recipe import plan_from_tables, recipe_of
from overpaint.pipeline.run_folder import RECIPE, STATS, SUCCESS, WORK, RunFolder
from overpaint.pipeline.storage import Storage, normalise
from overpaint.pipeline.tasks import Remaining, Task, remaining

Runner = Callable[[Run, Sequence[Task]], Iterable[pa.Table]]
"""Takes tasks through a plan and yields a summary of each as it is committed."""

PLANNED = f"{WORK}/planned.json"
_PACKAGES = ("overpaint", "ray", "torch", "diffusers", "transformers", "pyarrow", "pillow", "numpy")


@dataclass(frozen=True, slots=True)
class Asked:
    """Which rows a user asked for."""

    input_uri: str
    limit: int | None = None
    mapping: dict[str, str] = field(default_factory=dict[str, str])
    base_uri: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For the record of a run, and its identity."""
        return {
            "input": normalise(self.input_uri),
            "limit": self.limit,
            "mapping": self.mapping,
            "base": normalise(self.base_uri) if self.base_uri else None,
        }

    def read(self) -> Input:
        """Reads the rows."""
        return read_input(
            self.input_uri, limit=self.limit, mapping=self.mapping, base_uri=self.base_uri
        )


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


def open_run(plan: Plan, asked: Asked, output: str, read: Callable[[], Input]) -> Run:
    """Plans a run into its folder, or finds it planned.

    Args:
        plan: checked.
        asked: which input, for the record.
        output: the run folder.
        read: reads the input and checks that it fits the plan; called only where the run is not
            planned yet.

    Raises:
        UsageError: the folder holds another run, or files that are no run's.
    """
    folder = RunFolder(Storage(normalise(output)))
    found = folder.read_json(RECIPE)
    identity = run_identity(plan, asked)
    if found is not None and found.get("identity") != identity:
        raise UsageError(_another_run(output, found, plan, asked))
    planned = found is not None and (
        folder.read_json(PLANNED) is not None or folder.read_json(SUCCESS) is not None
    )
    if not planned:
        given = read()
        record = _record(plan, given, asked, identity)
        _refuse_strangers(folder, found)
        folder.write_json(RECIPE, record)
        counts = write_plan(plan, given, folder)
        folder.write_json(
            PLANNED, {"planned": counts.num_rows, "duplicates": counts.num_duplicates}
        )
        return Run(plan, folder.storage.uri, given.base_uri)
    assert found is not None
    return Run(plan, folder.storage.uri, found["base_uri"])


def existing_run(folder: RunFolder) -> Run:
    """The run that a folder holds.

    Raises:
        UsageError: it holds none.
    """
    recipe = folder.read_json(RECIPE)
    if recipe is None:
        raise UsageError(f"{folder.storage.uri}: no run there (no {RECIPE})")
    plan = plan_from_tables(recipe["recipe"], folder.storage.at(RECIPE))
    return Run(plan, folder.storage.uri, recipe["base_uri"])


def run_identity(plan: Plan, asked: Asked) -> str:
    """Of everything that decides what a run's folder will hold."""
    return digest(
        {
            "stages": list(plan.fingerprints().items()),
            "row": plan.row,
            "policy": plan.policy.model_dump(mode="json"),
            "image_format": plan.image_format,
            **asked.as_json(),
        }
    )


def _refuse_strangers(folder: RunFolder, found: Any) -> None:
    """A folder with files that no run wrote is not taken over."""
    if found is None and (paths := folder.storage.list()):
        raise UsageError(
            f"{folder.storage.uri}: the output folder holds {len(paths)} files that are not a "
            f"run's, such as {paths[0]}; choose an empty one"
        )


def _another_run(output: str, found: dict[str, Any], plan: Plan, asked: Asked) -> str:
    recipe = recipe_of(plan)
    theirs: dict[str, Any] = found.get("recipe", {})
    changed = [key for key in recipe if recipe[key] != theirs.get(key)]
    changed += [key for key, value in asked.as_json().items() if found.get(key) != value]
    what = ", ".join(changed) or "checkpoint files or versions"
    return f"{output}: the output holds another run (different: {what}); choose another --output"


def _record(plan: Plan, given: Input, asked: Asked, identity: str) -> dict[str, Any]:
    return {
        "name": plan.name,
        "identity": identity,
        "fingerprint": plan.fingerprint(),
        "fingerprints": plan.fingerprints(),
        "key_columns": plan.key_columns(),
        "revisions": {stage.name: stage.operator.revisions() for stage in plan.stages},
        **asked.as_json(),
        "base_uri": given.base_uri,
        "recipe": recipe_of(plan),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions that can change bytes."""
    found = {name: version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), "machine": platform.machine(), **found}


def execute(run: Run, runner: Runner, display: Display) -> Ledger:
    """Takes what remains of a run to its end.

    Raises:
        UsageError: another runner is at work on it.
        BudgetError: too many rows failed.
        OverpaintError: the ledger does not add up, which is a fault of Overpaint.
    """
    folder = run.folder
    if folder.read_json(SUCCESS) is None:
        with held(folder):
            _execute(run, runner, display)
    folder.storage.remove_tree(WORK)
    for name in ("images", "masks", "plan", "manifest"):
        folder.storage.remove_leftovers(name)
    return manifest_ledger(folder, folder.parts("manifest"))


def _execute(run: Run, runner: Runner, display: Display) -> None:
    left = remaining(run.folder, run.plan.task_rows)
    progress = Progress(left.ledger)
    display.started(left.ledger)
    started_at = datetime.now(UTC)
    start = time.monotonic()
    try:
        _drive(run, left, runner, progress, display)
    finally:
        _write_stats(run.folder, progress, started_at, time.monotonic() - start)
    _finish(run, left.ledger.planned)


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
        if run.plan.budget.is_exceeded(progress.ledger.ended, progress.ledger.failed):
            raise BudgetError(
                f"{progress.ledger.failed} of {progress.ledger.ended} rows failed, more than "
                f"budget.max_failed_share = {run.plan.budget.max_failed_share:g}: "
                "`overpaint status` counts the causes; mend them and run the same command again"
            )


def _summaries(tables: Iterable[pa.Table]) -> Iterator[dict[str, Any]]:
    for table in tables:
        yield from table.to_pylist()


def _finish(run: Run, planned: int) -> None:
    """Checks the ledger from storage, writes the report, and marks the run as done."""
    folder = run.folder
    parts = folder.parts("manifest")
    ledger = manifest_ledger(folder, parts)
    if parts != folder.parts("plan") or ledger.planned != planned or ledger.pending:
        raise OverpaintError(
            f"the ledger does not add up: {planned} planned, {ledger.as_json()}: this is a fault "
            f"of Overpaint; the run folder is kept as it is"
        )
    write_report(folder)
    planned_json = folder.read_json(PLANNED) or {}
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
            "versions": versions(),
            "hosts": sorted({*before.get("hosts", []), platform.node()}),
        },
    )
