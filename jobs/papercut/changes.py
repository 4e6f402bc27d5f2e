"""Building blocks of all edits: the draft of a change, its visibility and its masks."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from overpaint.jobs.papercut.draw import coverage, detail_silhouette, draw_pixels, footprint
from overpaint.jobs.papercut.scene import SIZE_PX, Scene

MIN_MSE_THOUSANDTHS = 5

Mask = NDArray[np.uint8]


class DragPoint(NamedTuple):
    """Displacement of one point, in pixels, as in DragGAN.

    Attributes:
        from_x_px: horizontal position in the source.
        from_y_px: vertical position in the source.
        to_x_px: horizontal position in the target.
        to_y_px: vertical position in the target.
    """

    from_x_px: int
    from_y_px: int
    to_x_px: int
    to_y_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Change of a scene that is not yet checked for visibility and split.

    Attributes:
        source: scene before the change.
        target: scene after the change.
        phrasings: instructions that all mean this change.
        mask_phrase: referring expression that locates the mask in the source; empty for the whole
            picture.
        mask: pixels that the change may touch, uint8 HW, 0 or 255.
        drag_points: displacements; None where nothing moves.
    """

    source: Scene
    target: Scene
    phrasings: tuple[str, ...]
    mask_phrase: str
    mask: Mask
    drag_points: tuple[DragPoint, ...] | None = None


def is_visible(source: Scene, target: Scene) -> bool:
    """Tells whether two scenes differ by an MSE of at least 0.005, of colours in 0..1."""
    difference = np.subtract(draw_pixels(source), draw_pixels(target), dtype=np.int32)
    error = int(np.vdot(difference, difference))
    return error * 1000 >= MIN_MSE_THOUSANDTHS * 255 * 255 * difference.size


def changed_mask(source: Scene, index: int, target: Scene, target_index: int) -> Mask:
    """Returns the pixels that an item touches before or after a change."""
    return footprint(source, index) | footprint(target, target_index)


def whole_mask() -> Mask:
    """Returns a mask of the whole picture."""
    return np.full((SIZE_PX, SIZE_PX), 255, np.uint8)


def backdrop_mask(scene: Scene, num_items: int) -> Mask:
    """Returns every pixel in which the background shows, soft edges and shadows included."""
    covered = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    for index in range(num_items):
        covered = np.maximum(covered, coverage(scene, index))
    return np.where(covered == 255, 0, 255).astype(np.uint8)


def features_mask(source: Scene, target: Scene) -> Mask:
    """Returns the facial features of two faces, with a margin for their shadows."""
    details = np.maximum(*(np.asarray(detail_silhouette(scene)) for scene in (source, target)))
    return np.where(grown(details, 4) > 0, 255, 0).astype(np.uint8)


def grown(mask: Mask, radius_px: int) -> Mask:
    """Returns the largest value in a square of 2 * radius_px + 1 pixels around each pixel."""
    for _ in range(radius_px):
        mask = _grown_down(_grown_down(mask).T).T
    return mask


def _grown_down(mask: Mask) -> Mask:
    """Returns the largest of each value and those above and below it."""
    wide = mask.copy()
    np.maximum(wide[1:], mask[:-1], out=wide[1:])
    np.maximum(wide[:-1], mask[1:], out=wide[:-1])
    return wide
