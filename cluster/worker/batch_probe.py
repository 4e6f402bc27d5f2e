"""Batch sizes found by a probe: doubled until rows a second gain little, or memory ends.

Rows of the input go through the stages before; then one of them fills batches of each size. The
size is found once, before a run is planned: it decides the last digit of an answer, and so is a
part of a row's identity like a size that a recipe gives.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from overpaint.cluster.worker.batch import run_batch, run_stages
from overpaint.cluster.worker.lane import Lane
from overpaint.cluster.worker.memory import LoadedOperator, is_out_of_memory
from overpaint.pipeline.columns import Row
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.stage import Stage

P = ParamSpec("P")
T = TypeVar("T")

LEAST_GAIN = 0.1
"""Gain in rows a second, as a share, for which a batch is doubled."""
_TRIES = 2
"""Calls of each size that are timed, after one that is not."""


@dataclass(frozen=True, slots=True)
class BatchProbe:
    """Batch size that was found.

    Attributes:
        batch_size: rows in one call.
        rows_per_s: rows a second, by each size that was tried.
        limit: what ended the search: `gain`, `memory`, `refused`, `task_rows`, or `no row`.
    """

    batch_size: int
    rows_per_s: Mapping[int, float]
    limit: str

    def __str__(self) -> str:
        tried = ", ".join(f"{size}: {speed:.3g}" for size, speed in self.rows_per_s.items())
        return f"batch_size = {self.batch_size} (rows a second at {tried}; ended by {self.limit})"


def find_batch_sizes(plan: Plan, group: str, rows: Sequence[Row]) -> dict[str, BatchProbe]:
    """Finds the batch sizes of the stages of a group that ask for it.

    Args:
        plan: plan of the run.
        group: name of the group.
        rows: planned rows of the input, with the columns that are equal in every row.

    Returns:
        What was found, by the name of the stage.
    """
    stages = plan.stages_of(group)
    last = max(place for place, stage in enumerate(plan.stages) if stage in stages)
    found: dict[str, BatchProbe] = {}
    done: list[Row] = list(rows)
    for place, stage in enumerate(plan.stages[: last + 1]):
        if stage.operator.kind == "store":
            continue  # a probe leaves nothing in the run folder
        is_open = stage.finds_batch_size
        operator = stage.operator.with_batch_size(1) if is_open else stage.operator
        loaded = LoadedOperator.load(operator)
        if is_open and stage in stages:
            found[stage.name] = _probe(stage, loaded, done, plan.task_rows)
        if after := plan.stages[place + 1 : last + 1]:
            done = list(run_stages([stage], {stage.name: loaded}, done, after=after).rows)
    return found


def _probe(stage: Stage, loaded: LoadedOperator, rows: Iterable[Row], task_rows: int) -> BatchProbe:
    """Finds the batch size of one stage, by a row that it can do."""
    alive = [stage.to_operator(row) for row in rows if row.get("status") is None]
    row = next((one for one in alive if _can_do(loaded, one)), None)
    if row is None:
        return BatchProbe(1, {}, "no row")
    speeds: dict[int, float] = {}
    best, limit = 1, "task_rows"
    size = 1
    while size <= task_rows:
        speed = _rows_per_s(loaded, row, size)
        if isinstance(speed, str):
            limit = speed
            break
        speeds[size] = speed
        if size > 1 and speed < speeds[best] * (1 + LEAST_GAIN):
            limit = "gain"
            break
        best, size = size, size * 2
    return BatchProbe(best, speeds, limit)


def _can_do(loaded: LoadedOperator, row: Row) -> bool:
    (outcome,) = run_batch(loaded, [row])
    return isinstance(outcome, Mapping)


def _rows_per_s(loaded: LoadedOperator, row: Row, size: int) -> float | str:
    """Returns the rows a second of batches of a size, or why there are none."""
    try:
        sized = LoadedOperator(loaded.operator.with_batch_size(size), loaded.model)
    except ValueError:
        return "refused"
    try:
        seconds = [_seconds(sized, row, size) for _ in range(1 + _TRIES)][1:]
    except Exception as error:  # noqa: BLE001  a batch that cannot be done ends the search
        return "memory" if is_out_of_memory(error) else "refused"
    return size / max(min(seconds), 1e-9)


def _seconds(loaded: LoadedOperator, row: Row, size: int) -> float:
    """Returns the seconds of a batch: those of its model, beside which an actor does the rest."""
    lane, start_s = _ModelClock(), time.perf_counter()
    loaded.run([dict(row) for _ in range(size)], lane)
    return lane.model_s or time.perf_counter() - start_s


class _ModelClock(Lane):
    """Lane that measures the steps that use a model."""

    def __init__(self) -> None:
        super().__init__()
        self.model_s = 0.0

    def model(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls and measures a step that uses the model."""
        start_s = time.perf_counter()
        try:
            return step(*args, **kwargs)
        finally:
            self.model_s += time.perf_counter() - start_s
