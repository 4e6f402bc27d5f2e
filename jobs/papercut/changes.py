"""What all edits are made of: a draft of a change, how big it is, and where it may show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from overpaint.jobs.papercut.draw import coverage, detail_silhouette, draw, footprint
from overpaint.jobs.papercut.scene import SIZE_PX, Scene
from PIL import ImageFilter

EditType = Literal[
    "add",
    "remove",
    "replace",
    "background",
    "expression",
    "color",
    "texture",
    "style",
    "move",
    "resize",
    "pose",
    "viewpoint",
]
EDIT_TYPES: tuple[EditType, ...] = get_args(EditType)
MIN_MSE_THOUSANDTHS = 5

Mask = NDArray[np.uint8]


class DragPoint(NamedTuple):
    """Something at `from` in the source that is at `to` in the target, in pixels."""

    from_x_px: int
    from_y_px: int
    to_x_px: int
    to_y_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A change before it is known to be visible enough and of the right split.

    Attributes:
        source: The scene before.
        target: The scene after.
        phrasings: Instructions that all mean this change.
        mask_phrase: What to look for in the source to find the mask; empty for the whole picture.
        mask: Where the change may show, uint8 HW, 0 or 255.
        drag_points: What goes where; None where nothing moves.
    """

    source: Scene
    target: Scene
    phrasings: tuple[str, ...]
    mask_phrase: str
    mask: Mask
    drag_points: tuple[DragPoint, ...] | None = None


def is_visible(source: Scene, target: Scene) -> bool:
    """Whether two scenes differ by a mean squared error of at least 0.005, of colours in 0..1."""
    before, after = (np.asarray(draw(scene), np.int64) for scene in (source, target))
    error = int(((before - after) ** 2).sum())
    return error * 1000 >= MIN_MSE_THOUSANDTHS * 255 * 255 * before.size


def mask_of(source: Scene, index: int, target: Scene, target_index: int) -> Mask:
    """All that an item touches before and after."""
    return footprint(source, index) | footprint(target, target_index)


def whole_mask() -> Mask:
    """The whole picture."""
    return np.full((SIZE_PX, SIZE_PX), 255, np.uint8)


def backdrop_mask(scene: Scene, num_items: int) -> Mask:
    """Every pixel that the background shows in, soft edges and shadows included."""
    covered = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    for index in range(num_items):
        covered = np.maximum(covered, coverage(scene, index))
    return np.where(covered == 255, 0, 255).astype(np.uint8)


def features_mask(source: Scene, target: Scene) -> Mask:
    """The eyes, brows, mouth and the like of two faces, and a margin for their shadows."""
    reach = ImageFilter.MaxFilter(9)
    masks = [np.asarray(detail_silhouette(scene).filter(reach)) for scene in (source, target)]
    return np.where(masks[0] | masks[1], 255, 0).astype(np.uint8)
