"""Routes of an edit stage: the choice that a row takes by its type of edit and what it has.

A route is keyed by a type of edit, such as `color`; one for rows that have a mask ends with
`+mask`, such as `color+mask`, and goes before the other.
"""

from collections.abc import Mapping, Sequence

from overpaint.operators.diffusion.method import Method
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row, first_text
from overpaint.pipeline.conditions import MASK, Condition
from overpaint.pipeline.errors import near_miss

MASKED = "+mask"
Routes = Mapping[str, Sequence[str]]
"""Choices by the key of a route, the preferred first."""


def check_routes(routes: Routes, choices: Mapping[str, Method]) -> None:
    """Checks that routes lead to choices.

    Raises:
        ValueError: one does not.
    """
    for key, names in routes.items():
        for name in names:
            if name not in choices:
                raise ValueError(f"routes.{key} has {name!r}: {near_miss(name, choices)}")


def routed(routes: Routes, choices: Mapping[str, Method], row: Row) -> str:
    """Returns the first choice of a row's route whose words and conditions it has, else ''."""
    edit_type = row.get(c.EDIT_TYPE.name) or ""
    masked = f"{edit_type}{MASKED}"
    has_mask = row.get(MASK.input.name) is not None
    names = routes.get(masked, ()) if has_mask and masked in routes else routes.get(edit_type, ())
    return next((name for name in names if _serves(choices[name], row)), "")


def route_columns(choices: Mapping[str, Method]) -> tuple[Column, ...]:
    """Returns the columns of the input by which rows take a route."""
    asked = [column for method in choices.values() for column in _asked(method)]
    return tuple(dict.fromkeys((c.EDIT_TYPE, MASK.input, *asked)))


def dispensable(choices: Mapping[str, Method]) -> frozenset[Column]:
    """Returns the columns that a row may lack, since it then takes a choice that needs none."""
    conditions = [
        column
        for method in choices.values()
        for need in method.needed
        if isinstance(need, Condition)
        for column in (need.column, need.input)
    ]
    prompts = [method.prompt for method in choices.values() if method.prompt is not None]
    return frozenset((*conditions, *prompts))


def _serves(method: Method, row: Row) -> bool:
    return all(_is_there(row, column) for column in _asked(method))


def _is_there(row: Row, column: Column) -> bool:
    value = row.get(column.name)
    return first_text(row, column) is not None if isinstance(value, str) else bool(value)


def _asked(method: Method) -> list[Column]:
    """Returns the columns of the input that a method cannot do without."""
    conditions = [need.input for need in method.needed if isinstance(need, Condition)]
    return conditions if method.prompt is None else [method.prompt, *conditions]
