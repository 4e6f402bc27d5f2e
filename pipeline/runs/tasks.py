"""Remaining tasks of a run, derived from its plan and from the rows that have ended.

A task is a few rows of one plan part, whole groups together where they fit, so that one inversion
serves all edits of a source.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast, overload

from overpaint.pipeline.runs.folder import CACHED, RunFolder
from overpaint.pipeline.runs.manifest import Ledger, count, manifest_ledger
from overpaint.pipeline.runs.reuse import stages_cached_for_all


@dataclass(frozen=True, slots=True)
class Task:
    """Rows of a plan part that are done together.

    Attributes:
        part: number of the plan part.
        rows: places of the rows in the part.
    """

    part: int
    rows: tuple[int, ...]


class TaskTable(Sequence[Task]):
    """Tasks in the order in which they are done, in a few bytes a row.

    Example:
        >>> tasks = TaskTable()
        >>> tasks.add(0, [0, 1, 2])
        >>> tasks[0].rows
        (0, 1, 2)
    """

    def __init__(self) -> None:
        self._parts = array("i")
        self._stops = array("q", [0])
        self._rows = array("i")

    def add(self, part: int, rows: Iterable[int]) -> None:
        """Adds a task at the end."""
        self._rows.extend(rows)
        self._parts.append(part)
        self._stops.append(len(self._rows))

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, place: int) -> Task: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Task]: ...
    def __getitem__(self, place: int | slice) -> Task | Sequence[Task]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        index = range(len(self))[place]
        start, stop = self._stops[index], self._stops[index + 1]
        return Task(self._parts[index], tuple(self._rows[start:stop]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(cast(Sequence[Any], other))


@dataclass(frozen=True, slots=True)
class Remaining:
    """Remaining work of a run.

    Attributes:
        ledger: counts of the rows so far.
        tasks: tasks with all rows that have not ended.
        pending: number of rows of each unfinished part that have not ended; a part with none left
            waits only to be written.
        cached_parts: parts with rows whose outputs an update has kept.
        idle_stages: names of stages that no remaining row needs, since all have cached outputs.
    """

    ledger: Ledger
    tasks: TaskTable
    pending: dict[int, int]
    cached_parts: frozenset[int] = frozenset()
    idle_stages: frozenset[str] = frozenset()


def remaining(folder: RunFolder, task_rows: int) -> Remaining:
    """Derives the remaining tasks from the plan, the manifest and the results."""
    finished = set(folder.parts("manifest"))
    ledger = manifest_ledger(folder, sorted(finished))
    tasks = TaskTable()
    pending: dict[int, int] = {}
    cached_parts = set(folder.parts(CACHED))
    idle: list[set[str]] = []
    unfinished = [part for part in folder.parts("plan") if part not in finished]
    for part, table in folder.tables(["key", "group_id"], folder="plan", parts=unfinished):
        ended = _ended(folder, part)
        keys: list[Any] = table["key"].to_pylist()
        left = [index for index, key in enumerate(keys) if key not in ended]
        ledger = ledger.plus(count(ended.values(), len(keys)))
        pending[part] = len(left)
        groups: list[Any] = table["group_id"].to_pylist()
        for rows in cut(left, groups, task_rows):
            tasks.add(part, rows)
        if left:
            cached = folder.read_part(CACHED, part) if part in cached_parts else None
            idle.append(stages_cached_for_all(cached, {keys[index] for index in left}))
    return Remaining(
        ledger,
        tasks,
        pending,
        cached_parts=frozenset(cached_parts),
        idle_stages=frozenset(set[str].intersection(*idle)) if idle else frozenset(),
    )


def _ended(folder: RunFolder, part: int) -> dict[str, str]:
    tables = folder.read_results(part, ["key", "status"])
    return {row["key"]: row["status"] for table in tables for row in table.to_pylist()}


def cut(left: Sequence[int], groups: Sequence[str], task_rows: int) -> Iterator[tuple[int, ...]]:
    """Cuts the places of rows into tasks of at most `task_rows`; only a larger group is split."""
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
