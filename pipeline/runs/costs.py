"""Cost of a planned run: network evaluations by stage and kind, counted before it is started."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from overpaint.pipeline.columns import Row
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.operator import Operator
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.tasks import cut
from overpaint.pipeline.stage import Stage


class CostCounter:
    """Counter of the network evaluations of each stage over the rows of a plan.

    Rows of one task whose inputs are equal share one answer, which counts once: so one inversion
    serves all edits of a source. A row that a stage will refuse costs nothing there.

    Args:
        plan: plan of the run.

    Example:
        >>> counter = CostCounter(plan)
        >>> for table, _ in plan_parts(plan, run_input):
        ...     counter.add_part(table)
        >>> counter.by_stage()["edit"].forward
        1440
    """

    def __init__(self, plan: Plan) -> None:
        self._stages = _costed_stages(plan)
        self._task_rows = plan.task_rows
        self._counts: dict[str, Counter[Cost]] = {stage.name: Counter() for stage in plan.stages}

    def add_part(self, table: pa.Table) -> None:
        """Counts the rows of one part of the plan."""
        rows = table.to_pylist()
        groups: list[Any] = table["group_id"].to_pylist()
        tasks = list(cut(range(len(rows)), groups, self._task_rows))
        for costed in self._stages:
            inputs = costed.inputs(table)
            answered = [place for task in tasks for place in _first_places(inputs, task)]
            self._counts[costed.stage.name].update(costed.cost(rows[place]) for place in answered)

    def by_stage(self) -> dict[str, Cost]:
        """Returns the cost of each stage, by its name."""
        return {name: _total(by_cost) for name, by_cost in self._counts.items()}


def cost_of(plan: Plan, rows: Iterable[Row], counts: Callable[[Stage], bool]) -> Cost:
    """Returns the cost of some planned rows, none of whose answers are shared.

    Args:
        plan: plan of the rows.
        rows: rows as planned.
        counts: tells whether a stage counts.
    """
    stages = [costed for costed in _costed_stages(plan) if counts(costed.stage)]
    return sum((stage.cost(row) for row in rows for stage in stages), Cost())


@dataclass(frozen=True, slots=True)
class _CostedStage:
    """Stage that evaluates networks, with all that its cost depends on.

    Attributes:
        stage: the stage.
        sources: operator that writes each column, by the name under which the stage's reads it.
        planned: planned columns that the stage depends on, also through earlier stages.
        later: stages after it, of which a row's choice may need it or not.
    """

    stage: Stage
    later: Sequence[Stage]
    sources: Mapping[str, Operator[Any]]
    planned: frozenset[str]

    def inputs(self, table: pa.Table) -> list[Hashable]:
        """Returns a value for each row that is equal where the stage would answer equally."""
        choices = {
            stage.read_as(column.name)
            for stage in self.later
            for column in stage.operator.choice_columns
        }
        names = sorted((self.planned | choices) & set(table.column_names))
        columns = [map(_hashable, table[name].to_pylist()) for name in names]
        return list(zip(*columns, strict=True)) if columns else [()] * table.num_rows

    def cost(self, row: Row) -> Cost:
        """Returns the cost of a row; one that the stage refuses, or is not for, costs nothing."""
        try:
            if not self.stage.is_needed(self.later, row):
                return Cost()
            return self.stage.operator.cost(self.stage.to_operator(row), self.sources)
        except RowError:
            return Cost()


def _costed_stages(plan: Plan) -> list[_CostedStage]:
    writers: dict[str, Operator[Any]] = {}
    planned: dict[str, frozenset[str]] = {}
    stages: list[_CostedStage] = []
    for place, stage in enumerate(plan.stages):
        read, later = stage.read_names, plan.stages[place + 1 :]
        names = frozenset[str]().union(*(planned.get(name, frozenset({name})) for name in read))
        if type(stage.operator).cost is not Operator.cost:
            stages.append(_CostedStage(stage, later, _sources(stage, writers), names))
        writers |= dict.fromkeys(stage.output_names, stage.operator)
        planned |= dict.fromkeys(stage.output_names, names)
    return stages


def _sources(stage: Stage, writers: Mapping[str, Operator[Any]]) -> dict[str, Operator[Any]]:
    """Returns the operator that writes each column, by the name under which it is read."""
    columns = (*stage.operator.inputs, *stage.operator.optional)
    names = {column.name: stage.read_as(column.name) for column in columns}
    return {column: writers[name] for column, name in names.items() if name in writers}


def _first_places(inputs: Sequence[Hashable], task: Sequence[int]) -> Iterable[int]:
    """Returns one place of a task for each different input."""
    return {inputs[place]: place for place in reversed(task)}.values()


def _hashable(value: Any) -> Hashable:
    return value if isinstance(value, str | int | float | None) else repr(value)


def _total(by_cost: Counter[Cost]) -> Cost:
    totals: Counter[str] = Counter()
    for cost, times in by_cost.items():
        totals.update({kind: number * times for kind, number in cost.counts().items()})
    return Cost(**totals)
