"""The 12 edit types of Papercut, each with the true edited picture.

A target is a function of its source and its instruction: where the instruction leaves a place or a
size open, a fixed rule fills it in (`thing_edits.centre_of`, `NAMED_RADIUS_PX`, `resized_px`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from overpaint.jobs.papercut.changes import EDIT_TYPES, Draft, DragPoint, EditType, Mask, is_visible
from overpaint.jobs.papercut.sample import Dice, split_of
from overpaint.jobs.papercut.scene import Scene, Split
from overpaint.jobs.papercut.scene_edits import (
    change_background,
    change_expression,
    change_pose,
    change_style,
    change_viewpoint,
)
from overpaint.jobs.papercut.thing_edits import (
    add_thing,
    move_thing,
    recolour_thing,
    remove_thing,
    replace_thing,
    resize_thing,
    retexture_thing,
)
from overpaint.jobs.papercut.views import Box, layout_boxes
from overpaint.jobs.papercut.words import captions

__all__ = ["EDIT_TYPES", "DragPoint", "Edit", "EditType", "sample_edit"]

_DRAFTERS: dict[EditType, Callable[[Dice], Draft | None]] = {
    "add": add_thing,
    "remove": remove_thing,
    "replace": replace_thing,
    "background": change_background,
    "expression": change_expression,
    "color": recolour_thing,
    "texture": retexture_thing,
    "style": change_style,
    "move": move_thing,
    "resize": resize_thing,
    "pose": change_pose,
    "viewpoint": change_viewpoint,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One edit and the truth about it.

    Attributes:
        edit_type: Which of EDIT_TYPES it is.
        source: The scene before.
        target: The scene after; `draw(target)` is the true edited picture.
        instruction: What to do, in words.
        phrasings: Other words for the same, the instruction among them.
        source_prompt: The most detailed caption of the source.
        target_prompt: The most detailed caption of the target.
        mask_phrase: What to look for in the source to find the mask, such as "red star"; empty for
            the whole picture.
        mask: Where the edit may show, uint8 HW, 0 or 255: all that was and all that will be.
        drag_points: What goes where; None where nothing moves.
        boxes: The layout of the target.
    """

    edit_type: EditType
    source: Scene
    target: Scene
    instruction: str
    phrasings: tuple[str, ...]
    source_prompt: str
    target_prompt: str
    mask_phrase: str
    mask: Mask
    drag_points: tuple[DragPoint, ...] | None
    boxes: tuple[Box, ...]


def sample_edit(seed: int, edit_type: EditType, split: Split = "train") -> Edit:
    """The edit of a seed, whose target differs from its source by an MSE of 0.005 or more.

    Args:
        seed: Any whole number.
        edit_type: Which of EDIT_TYPES.
        split: Whose content the source shows; an edit for training shows none of the test split,
            before or after.
    """
    dice = Dice(f"edit {edit_type} {seed}")
    while True:
        draft = _DRAFTERS[edit_type](dice)
        if draft is not None and _is_in(draft, split) and is_visible(draft.source, draft.target):
            return _finish(dice, edit_type, draft)


def _is_in(draft: Draft, split: Split) -> bool:
    if split_of(draft.source) != split:
        return False
    return split == "test" or split_of(draft.target) == "train"


def _finish(dice: Dice, edit_type: EditType, draft: Draft) -> Edit:
    return Edit(
        edit_type=edit_type,
        source=draft.source,
        target=draft.target,
        instruction=dice.pick(draft.phrasings),
        phrasings=draft.phrasings,
        source_prompt=captions(draft.source)[0],
        target_prompt=captions(draft.target)[0],
        mask_phrase=draft.mask_phrase,
        mask=draft.mask,
        drag_points=draft.drag_points,
        boxes=layout_boxes(draft.target),
    )
