"""A row's own part in an edit: its settings, and the values that the method needs."""

import json
from collections.abc import Mapping
from typing import Any

from overpaint.operators.diffusion.method import Editor, Method
from overpaint.operators.framing.conditions import condition_view
from overpaint.operators.framing.frame import Frame
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.conditions import MASK, Condition
from overpaint.pipeline.errors import RowError, first_error
from pydantic import ValidationError

_OWN_COLUMNS = ("strength", "guidance_scale")


def row_settings(method: Method, row: Row) -> Method:
    """Returns a method with the values that a row has of its own.

    `edit_params` holds fields of the method as JSON; the columns `strength` and `guidance_scale`
    come after it. Null leaves the recipe's value.

    Args:
        method: settings of the recipe.
        row: columns of the row.

    Raises:
        RowError: `edit_params_invalid`: not JSON, not a field of the method, or out of bounds.
    """
    values = _parsed(row.get("edit_params"))
    known = type(method).model_fields
    for name in _OWN_COLUMNS:
        if row.get(name) is not None and name in known:
            values[name] = row[name]
    if not values:
        return method
    try:
        return type(method).model_validate({**method.model_dump(), **values})
    except ValidationError as error:
        message = first_error(error, known, method.renamed)
        raise RowError("edit_params_invalid", message) from error


def _parsed(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    try:
        values: Any = json.loads(text)
    except ValueError as error:
        raise RowError("edit_params_invalid", "edit_params is not JSON") from error
    if not isinstance(values, dict):
        raise RowError("edit_params_invalid", "edit_params is not a JSON object")
    return values


def row_values(method: Method, row: Row, frame: Frame, editor: Editor) -> Mapping[str, Any]:
    """Returns what a method needs of a row beside its source, prompt, seed and mask.

    Args:
        method: declares columns and conditions.
        row: columns of the row.
        frame: frame of its source, through which conditions go.
        editor: model that will read inverted sources.

    Raises:
        RowError: a needed value is missing, cannot be decoded, or was made with other weights.
    """
    values: dict[str, Any] = {}
    for need in (*method.needs, *method.uses):
        if need is MASK:
            continue
        if isinstance(need, Condition):
            value = condition_view(frame, need, row)
        else:
            value = _checked(need, row.get(need.name), editor)
        if value is None and need in method.needs:
            if isinstance(need, Condition):
                raise RowError(f"{need.name}_missing", f"the method needs {need.name}")
            raise RowError("value_missing", f"the method needs {need.name}")
        values[need.name] = value
    return values


def _checked(column: Column, value: Any, editor: Editor) -> Any:
    if column.scope == "group" and value is not None and value.identity != editor.identity:
        raise RowError("inversion_mismatch", "the source was inverted with other weights")
    return value
