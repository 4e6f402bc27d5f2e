"""Edits of the 12 types, each with the true edited picture.

A target is a function of its source and its instruction: where the instruction leaves a position or
a size open, a fixed rule sets it (`thing_edits.centre_of`, `NAMED_RADIUS_PX`, `resized_px`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from overpaint.jobs.papercut.changes import Draft, DragPoint, Mask, is_visible
from overpaint.jobs.papercut.sample import PortableRandom, split_of
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
from overpaint.jobs.papercut.views import LabelledBox, layout_boxes
from overpaint.jobs.papercut.words import captions
from overpaint.pipeline.edit_types import EditType

__all__ = ["DragPoint", "DrawnEdit", "sample_draft", "sample_edit"]

_DRAFTERS: dict[EditType, Callable[[PortableRandom], Draft | None]] = {
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
class DrawnEdit:
    """Edit of a drawn scene with its true result.

    Attributes:
        edit_type: one of EDIT_TYPES.
        source: scene before the edit.
        target: scene after the edit; `draw(target)` is the true edited picture.
        instruction: edit instruction in words.
        phrasings: paraphrases of the instruction, itself included.
        source_prompt: most detailed caption of the source.
        target_prompt: most detailed caption of the target.
        mask_phrase: referring expression that locates the mask in the source, such as "red star";
            empty for the whole picture.
        mask: pixels that the edit may touch, uint8 HW, 0 or 255: the old item and the new one.
        drag_points: displacements; None where nothing moves.
        boxes: layout of the target.
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
    boxes: tuple[LabelledBox, ...]


def sample_edit(seed: int, edit_type: EditType, split: Split = "train") -> DrawnEdit:
    """Returns the edit of a seed; its target differs from its source by an MSE of 0.005 or more.

    Args:
        seed: any integer.
        edit_type: one of EDIT_TYPES.
        split: split whose content the source shows; an edit of the training split shows no test
            content, before or after.

    Example:
        >>> edit = sample_edit(7, "color")
        >>> edit.instruction, edit.mask_phrase
        ('change the color of the pink cat to purple', 'pink cat')
    """
    rng = PortableRandom(f"edit {edit_type} {seed}")
    return _finish(rng, edit_type, _accepted_draft(rng, edit_type, split))


def sample_draft(seed: int, edit_type: EditType, split: Split = "train") -> Draft:
    """Returns what is drawn of the edit of a seed, in less time than `sample_edit`.

    Args:
        seed: any integer.
        edit_type: one of EDIT_TYPES.
        split: split whose content the source shows, as in `sample_edit`.
    """
    return _accepted_draft(PortableRandom(f"edit {edit_type} {seed}"), edit_type, split)


def _accepted_draft(rng: PortableRandom, edit_type: EditType, split: Split) -> Draft:
    while True:
        draft = _DRAFTERS[edit_type](rng)
        if draft is not None and _is_in(draft, split) and is_visible(draft.source, draft.target):
            return draft


def _is_in(draft: Draft, split: Split) -> bool:
    if split_of(draft.source) != split:
        return False
    return split == "test" or split_of(draft.target) == "train"


def _finish(rng: PortableRandom, edit_type: EditType, draft: Draft) -> DrawnEdit:
    return DrawnEdit(
        edit_type=edit_type,
        source=draft.source,
        target=draft.target,
        instruction=rng.choice(draft.phrasings),
        phrasings=draft.phrasings,
        source_prompt=captions(draft.source)[0],
        target_prompt=captions(draft.target)[0],
        mask_phrase=draft.mask_phrase,
        mask=draft.mask,
        drag_points=draft.drag_points,
        boxes=layout_boxes(draft.target),
    )
