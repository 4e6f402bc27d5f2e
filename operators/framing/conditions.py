"""Conditions as a method gets them: in the pixels of the picture that the model sees.

What is aligned with the source goes through its frame; references keep their own size.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from overpaint.operators.framing.frame import (
    Frame,
    Points,
    view,
    view_labels,
    view_mask,
)
from overpaint.pipeline.columns import Row, is_missing
from overpaint.pipeline.conditions import Condition, Form
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import decode, decode_weights


class LabelledBox(NamedTuple):
    """A box of the model's picture, in pixels, and what it shows.

    Attributes:
        label: words for what the box shows; None where the row has none.
        left_px: from the left.
        top_px: from the top.
        right_px: first pixel outside.
        bottom_px: first pixel outside.
    """

    label: str | None
    left_px: float
    top_px: float
    right_px: float
    bottom_px: float


class EditConcept(NamedTuple):
    """A phrase that an edit adds, or removes, with its own numbers; None is the recipe's.

    Attributes:
        prompt: the phrase.
        reverse: whether the edit leads away from it.
        guidance_scale: strength of its guidance, at least 0.
        threshold: least value that guides, -1 to 1; by the method's own measure.
        weight: its weight beside the others, at least 0.
        warmup: share of the walked steps before it guides.
        cooldown: share of the walked steps after which it no longer does.
    """

    prompt: str
    reverse: bool = False
    guidance_scale: float | None = None
    threshold: float | None = None
    weight: float | None = None
    warmup: float | None = None
    cooldown: float | None = None


_CONCEPT_BOUNDS = {
    "guidance_scale": (0.0, 10000.0),
    "threshold": (-1.0, 1.0),
    "weight": (0.0, 10000.0),
    "warmup": (0.0, 1.0),
    "cooldown": (0.0, 1.0),
}


def condition_view(frame: Frame, condition: Condition, row: Row) -> Any:
    """Returns a condition of a row as a method gets it; None where the row has none.

    Args:
        frame: frame of the row's source; a condition that is not aligned does not use it.
        condition: one that the method declares.
        row: has the condition's `column`.

    Returns:
        By the condition's form: `picture` and `labels` RGB uint8 HWC; `pictures` a list of those;
        `weights` float32 HW, 0 to 1; `boxes` a list of `LabelledBox`; `points` float64 N4, from x,
        from y, to x, to y; `concepts` a list of `EditConcept`, at least one. What is
        aligned has the frame's size and pixels.

    Raises:
        RowError: `boxes_invalid`, `points_invalid` or `edit_concepts_invalid`, or a picture cannot
            be decoded.
    """
    value = row.get(condition.column.name)
    if value is None:
        return None
    if condition.aligned:
        return _ALIGNED[condition.form](frame, value)
    return _FREE[condition.form](value)


def _boxes(frame: Frame, boxes: Sequence[Any]) -> list[LabelledBox]:
    """Places boxes in the picture, and leaves out those that it does not show."""
    start = np.array(frame.padding)
    placed: list[LabelledBox] = []
    for entry in (entry or {} for entry in boxes):
        corners = frame.to_view(_corners(entry.get("box")))
        left, top, right, bottom = np.clip(corners, start, start + frame.content).ravel().tolist()
        if left < right and top < bottom:
            placed.append(LabelledBox(entry.get("label"), left, top, right, bottom))
    return placed


def _corners(box: Any) -> Points:
    corners = _pair(box)
    if corners is None or not (corners[0] < corners[1]).all():
        raise RowError("boxes_invalid", "a box is not [left, top, right, bottom] with an area")
    return corners


def _points(frame: Frame, points: Sequence[Any]) -> Points:
    ends = [_pair(point) for point in points]
    if any(end is None for end in ends):
        raise RowError("points_invalid", "a point is not [from_x, from_y, to_x, to_y]")
    return frame.to_view(np.reshape(np.array(ends), (-1, 2, 2))).reshape(-1, 4)


def edit_concepts(entries: Sequence[Any]) -> list[EditConcept] | None:
    """Returns the concepts of a row as a table has them; None where there are none.

    Raises:
        RowError: `edit_concepts_invalid`.
    """
    return [_concept(entry or {}) for entry in entries] or None


def _concept(entry: Mapping[str, Any]) -> EditConcept:
    prompt = entry.get("prompt")
    if not isinstance(prompt, str) or is_missing(prompt):
        raise RowError("edit_concepts_invalid", "a concept has no prompt")
    numbers = {name: entry.get(name) for name in _CONCEPT_BOUNDS}
    for name, (least, most) in _CONCEPT_BOUNDS.items():
        number = numbers[name]
        if number is not None and not least <= number <= most:
            message = f"{name} of the concept {prompt!r} is not from {least:g} to {most:g}"
            raise RowError("edit_concepts_invalid", message)
    return EditConcept(prompt, bool(entry.get("reverse")), **numbers)


def _pair(values: Any) -> Points | None:
    """Returns four numbers as two places; None where they are not four finite numbers."""
    try:
        pair = np.asarray(values, np.float64).reshape(2, 2)
    except (TypeError, ValueError):
        return None
    return pair if np.isfinite(pair).all() else None


_ALIGNED: dict[Form, Callable[[Frame, Any], Any]] = {
    "picture": lambda frame, data: view(frame, decode(data).seen),
    "labels": lambda frame, data: view_labels(frame, decode(data).seen),
    "weights": lambda frame, data: view_mask(frame, decode_weights(data)),
    "boxes": _boxes,
    "points": _points,
}
_FREE: dict[Form, Callable[[Any], Any]] = {
    "picture": lambda data: decode(data).seen,
    "pictures": lambda images: [decode(data).seen for data in images],
    "weights": lambda data: decode_weights(data).astype(np.float32) / 255.0,
    "concepts": edit_concepts,
}
