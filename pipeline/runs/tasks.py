"""What remains of a run, cut into tasks: derived from the plan and from what has ended.

A task is a few rows of one plan part, whole groups together where they fit, so that one inversion
serves all edits of a source.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from overpaint.pipeline.runs.folder import CACHED, RunFolder
from overpaint.pipeline.runs.manifest import Ledger, count, manifest_ledger
from overpaint.pipeline.runs.reuse import carried_by_all


@dataclass(frozen=True, slots=True)
class Task:
    """Rows of a plan part, by their places in it."""

    part: int
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Remaining:
    """What a run still has to do.

    Args:
        ledger: the rows that have ended.
        tasks: the rest.
        pending: the number of rows of each unfinished part that have not ended; a part with none
            left waits only to be written.
        kept_parts: parts with rows that an earlier form of the run has left answers for.
        idle: stages that none of the rows needs, since all have their answers.
    """

    ledger: Ledger
    tasks: tuple[Task, ...]
    pending: dict[int, int]
    kept_parts: frozenset[int] = frozenset()
    idle: frozenset[str] = frozenset()


def remaining(folder: RunFolder, task_rows: int) -> Remaining:
    """Derives what remains from the plan, the manifest and the results."""
    finished = set(folder.parts("manifest"))
    ledger = manifest_ledger(folder, sorted(finished))
    tasks: list[Task] = []
    pending: dict[int, int] = {}
    kept_parts = set(folder.parts(CACHED))
    idle: list[set[str]] = []
    for part in folder.parts("plan"):
        if part in finished:
            continue
        table = folder.read_part("plan", part, ["key", "group_id"])
        ended = _ended(folder, part)
        keys: list[Any] = table["key"].to_pylist()
        left = [index for index, key in enumerate(keys) if key not in ended]
        ledger = ledger.plus(count(ended.values(), len(keys)))
        pending[part] = len(left)
        groups: list[Any] = table["group_id"].to_pylist()
        tasks.extend(Task(part, rows) for rows in cut(left, groups, task_rows))
        if left:
            kept = folder.read_part(CACHED, part) if part in kept_parts else None
            idle.append(carried_by_all(kept, {keys[index] for index in left}))
    return Remaining(
        ledger,
        tuple(tasks),
        pending,
        kept_parts=frozenset(kept_parts),
        idle=frozenset(set[str].intersection(*idle)) if idle else frozenset(),
    )


def _ended(folder: RunFolder, part: int) -> dict[str, str]:
    tables = folder.read_results(part, ["key", "status"])
    return {row["key"]: row["status"] for table in tables for row in table.to_pylist()}


def cut(left: Sequence[int], groups: Sequence[str], task_rows: int) -> Iterator[tuple[int, ...]]:
    """Cuts places into tasks of at most `task_rows`; only a larger group is split."""
    task: list[int] = []
    for group in _runs(left, groups):
        if task and len(task) + len(group) > task_rows:
            yield tuple(task)
            task = []
        task.extend(group)
        while len(task) >= task_rows:
            yield tuple(task[:task_rows])
            task = task[task_rows:]
    if task:
        yield tuple(task)


def _runs(left: Sequence[int], groups: Sequence[str]) -> Iterator[list[int]]:
    run: list[int] = []
    for index in left:
        if run and groups[index] != groups[run[-1]]:
            yield run
            run = []
        run.append(index)
    if run:
        yield run
