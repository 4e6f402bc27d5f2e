"""Choices of rows: a row can choose the operator of a stage, such as its editing method.

A plan has one form for each combination of choices. The key and the fingerprint of a row are those
of the form that it chooses, so that another choice beside it changes neither; but a picture that
the plan fetches for one choice, such as a mask, is there for all of them.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from overpaint.pipeline.columns import Row
from overpaint.pipeline.plan import Plan

T = TypeVar("T")


class PerChoice(Generic[T]):
    """A value made from the form of the plan that a row chooses; once for each form.

    Args:
        plan: plan of all rows.
        make: makes the value of a form.
    """

    def __init__(self, plan: Plan, make: Callable[[Plan], T]) -> None:
        self._plan = plan
        self._make = make
        self._choosing = [
            (stage.operator, {c.name: stage.read_as(c.name) for c in stage.operator.choice_columns})
            for stage in plan.stages
            if stage.operator.choice_columns
        ]
        self._values: dict[tuple[str, ...], T] = {}

    def of(self, row: Row) -> T:
        """Returns the value for a row.

        Raises:
            RowError: there is no such choice.
        """
        choice = tuple(
            operator.choice_of({name: row.get(read) for name, read in columns.items()})
            for operator, columns in self._choosing
        )
        if choice not in self._values:
            stages = tuple(stage.for_row(row) for stage in self._plan.stages)
            self._values[choice] = self._make(self._plan.model_copy(update={"stages": stages}))
        return self._values[choice]
