"""A row's own part in an edit: its settings, and the values that the method needs."""

import json
from collections.abc import Hashable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.edit_choices import CHOOSING
from overpaint.operators.diffusion.inverting import Drawing, Inversion
from overpaint.operators.diffusion.method import Editor, Method, inverted_source
from overpaint.operators.framing.conditions import condition_view
from overpaint.operators.framing.frame import Frame, paste
from overpaint.operators.framing.region import frame_row
from overpaint.pipeline.columns import Column, Row, first_text
from overpaint.pipeline.conditions import MASK, Condition
from overpaint.pipeline.errors import RowError, first_error
from overpaint.pipeline.identity import canonical_json, identity_fields
from overpaint.pipeline.images import Picture, Pixels
from overpaint.pipeline.operator import Operator
from pydantic import ValidationError

_OWN_COLUMNS = ("strength", "guidance_scale")

Vary = Mapping[str, Sequence[Any]]
"""Values of a method's fields, of which a row takes one by its seed."""


def check_vary(method: Method, vary: Vary) -> None:
    """Checks that a method takes every value that its rows may draw.

    Raises:
        ValueError: a field has no values, the method has no such field, or a value is wrong.
    """
    for name, values in vary.items():
        if not values:
            raise ValueError(f"vary.{name}: give at least one value")
        for value in values:
            try:
                type(method).model_validate({**method.model_dump(), name: value})
            except ValidationError as error:
                message = first_error(error, type(method).model_fields, method.renamed)
                raise ValueError(f"vary: {message}") from error


def drawn(vary: Vary, seed: int) -> dict[str, Any]:
    """Returns one value of each field, by the row's seed."""
    hashes = {name: sha256(f"{seed} {name}".encode()).digest() for name in vary}
    return {name: v[int.from_bytes(hashes[name][:8]) % len(v)] for name, v in vary.items()}


def row_settings(method: Method, row: Row, vary: Vary) -> Method:
    """Returns a method with the values that a row has of its own.

    What the row draws comes first; `edit_params` holds fields of the method as JSON; the columns
    `strength` and `guidance_scale` come last. Null leaves the recipe's value.

    Args:
        method: settings of the recipe.
        row: columns of the row.
        vary: values that the row draws from by its seed.

    Raises:
        RowError: `edit_params_invalid`: not JSON, not a field of the method, or out of bounds.
    """
    values = drawn(vary, row["seed"]) if vary else {}
    values |= _parsed(row.get("edit_params"))
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


def row_values(
    method: Method, row: Row, frame: Frame, editor: Editor, added: Sequence[Condition] = ()
) -> Mapping[str, Any]:
    """Returns what a method needs of a row beside its source, prompt, seed and mask.

    Args:
        method: declares columns and conditions.
        row: columns of the row.
        frame: frame of its source, through which conditions go.
        editor: model that will read inverted sources.
        added: conditions that adapters read.

    Raises:
        RowError: a needed value is missing, cannot be decoded, or was made with other weights.
    """
    values: dict[str, Any] = {}
    for need in (*method.needed, *added, *method.used):
        if need is MASK:
            continue
        if isinstance(need, Condition):
            value = condition_view(frame, need, row)
        else:
            value = _checked(need, row.get(need.name), editor)
        if value is None and need in (*method.needed, *added):
            if isinstance(need, Condition):
                raise RowError(f"{need.name}_missing", f"the method needs {need.name}")
            raise RowError("value_missing", f"the method needs {need.name}")
        values[need.name] = value
    return values


def read_column(need: Column | Condition) -> Column:
    """Returns the column that an edit reads for what its method needs."""
    return need.column if isinstance(need, Condition) else need


def _checked(column: Column, value: Any, editor: Editor) -> Any:
    if column.scope == "group" and value is not None and value.identity != editor.identity:
        raise RowError("inversion_mismatch", "the source was inverted with other weights")
    return value


def row_prompt(row: Row, settings: Method, method: str) -> str:
    """Returns what to make, in words; empty where the row's conditions say it."""
    if settings.prompt is None:
        return ""
    prompt = first_text(row, settings.prompt)
    if prompt is None:
        raise RowError("prompt_missing", f"method {method!r} reads {settings.prompt.name}")
    return prompt


def inverted_steps(method: Method, sources: Mapping[str, Operator[Any]]) -> int:
    """Returns the steps of the inversion that a method needs."""
    columns = [need.name for need in method.needs if isinstance(need, Column)]
    operators = [sources[name] for name in columns if name in sources]
    settings = (getattr(operator, "settings", operator) for operator in operators)
    return next(s.num_inference_steps for s in settings if isinstance(s, Inversion | Drawing))


def call_size(value: Any) -> Hashable:
    """Returns what of a value decides the shape of a call: presence, length, steps and size."""
    if hasattr(value, "frame"):
        return value.frame.size, value.num_inference_steps
    return len(value) if isinstance(value, list | tuple) else value is not None


def row_frame(row: Row, settings: Method, editor: Editor) -> Frame:
    """Returns the part of a source that the model sees: its inversion's, where it has one."""
    if (inverted := inverted_source(settings, row)) is not None:
        return inverted.frame
    framed = settings.framed
    side_px = framed.resolution or editor.resolution_px
    return frame_row(
        row, settings.picture_shapes, framed.fit, side_px, editor.multiple_px, framed.crop_margin
    )


def pasted(
    source: Picture, frame: Frame, edited: NDArray[np.float32], alpha: Pixels | None
) -> Picture:
    """Returns a source with an edited picture, HWC 0-255, in the place of its frame.

    Raises:
        RowError: `nan_in_result`.
    """
    if not bool(np.isfinite(edited).all()):
        raise RowError("nan_in_result", "the edited picture holds values that are not finite")
    pixels = np.clip(np.rint(edited), 0, 255).astype(np.uint8)
    return Picture(paste(frame, source.rgb, pixels, alpha), source.alpha, source.icc_profile)


def params_json(edit: Operator[Any], settings: Method, editor: Editor, batch_size: int) -> str:
    """Returns the fields that decided a row's pixels, as canonical JSON.

    Args:
        edit: edit that the row chose.
        settings: its method with the row's own values.
        editor: loaded model.
        batch_size: rows in the call.
    """
    in_force = edit.model_copy(update={"settings": settings, "batch_size": batch_size})
    fields = identity_fields(in_force).items()
    own = {k: v for k, v in fields if v is not None and k not in {*CHOOSING, "vary"}}
    fallbacks = {"oom_fallbacks": list(editor.oom_fallbacks)} if editor.oom_fallbacks else {}
    return canonical_json(own | fallbacks)
