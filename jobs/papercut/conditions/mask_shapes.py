"""Mask shapes: masks that say less and less of what the true mask says."""

from typing import ClassVar

import numpy as np
from overpaint.jobs.papercut.changes import Mask
from overpaint.jobs.papercut.condition import DrawnCondition, Value
from overpaint.jobs.papercut.edits import DrawnEdit
from overpaint.jobs.papercut.sample import PortableRandom
from overpaint.jobs.papercut.scene import SIZE_PX
from overpaint.jobs.papercut.views import box_of
from PIL import Image

LOOSE_PERCENT = (10, 20)

_Place = tuple[int, int]


class MaskShapes(DrawnCondition):
    """Masks of less and less precision, of every edit type.

    All are L, of the source's size, 255 where the edit may change it, and lie over the source; each
    contains the one before, and `mask_uri` is the most precise. All are white for a style. A run
    takes one as its mask by `--map mask_uri=mask_exact_uri --map mask_box_uri=mask_uri`.

    - `mask_hull_uri`: convex hull of the mask
    - `mask_box_uri`: bounding box of the mask
    - `mask_loose_uri`: that box, each side moved out by 10 to 20 % of the box's width or height
    """

    columns: ClassVar[tuple[str, ...]] = ("mask_hull_uri", "mask_box_uri", "mask_loose_uri")

    def values(self, edit: DrawnEdit, rng: PortableRandom) -> dict[str, Value]:
        """Returns hull, box and loose box of the mask."""
        shapes = (convex_hull(edit.mask), *_boxes(edit.mask, rng))
        return {
            name: Image.fromarray(shape) for name, shape in zip(self.columns, shapes, strict=True)
        }


def convex_hull(mask: Mask) -> Mask:
    """Returns the smallest convex region that contains a mask, uint8 HW, 0 or 255.

    Args:
        mask: uint8 HW with at least one set pixel.
    """
    rows, columns = np.indices(mask.shape)
    inside = np.ones(mask.shape, bool)
    corners = _corners(mask)
    for (x, y), (next_x, next_y) in zip(corners, (*corners[1:], corners[0]), strict=True):
        inside &= (next_x - x) * (rows - y) - (next_y - y) * (columns - x) >= 0
    box = _filled(*box_of(mask, "")[:4])  # a hull of one line has no sides to end it
    return np.where(inside, box, 0).astype(np.uint8)


def _corners(mask: Mask) -> list[_Place]:
    """Returns the corners of a mask's hull in order (Andrew's monotone chain)."""
    ends: set[_Place] = set()
    for y in np.nonzero(mask.any(axis=1))[0].tolist():
        columns = np.nonzero(mask[y])[0]
        ends |= {(int(columns[0]), y), (int(columns[-1]), y)}
    ordered = sorted(ends)
    return [*_chain(ordered)[:-1], *_chain(ordered[::-1])[:-1]] or ordered


def _chain(places: list[_Place]) -> list[_Place]:
    chain: list[_Place] = []
    for place in places:
        while len(chain) > 1 and _turn(chain[-2], chain[-1], place) <= 0:
            chain.pop()
        chain.append(place)
    return chain


def _turn(first: _Place, second: _Place, third: _Place) -> int:
    """Returns a positive number where three places turn as a hull's corners do."""
    return (second[0] - first[0]) * (third[1] - first[1]) - (second[1] - first[1]) * (
        third[0] - first[0]
    )


def _boxes(mask: Mask, rng: PortableRandom) -> tuple[Mask, Mask]:
    """Returns the bounding box of a mask, and a loose one."""
    left, top, right, bottom, _ = box_of(mask, "")
    margins = [
        max(1, length * rng.between(*LOOSE_PERCENT) // 100)
        for length in (right - left, bottom - top, right - left, bottom - top)
    ]
    loose = (left - margins[0], top - margins[1], right + margins[2], bottom + margins[3])
    return _filled(left, top, right, bottom), _filled(*loose)


def _filled(left: int, top: int, right: int, bottom: int) -> Mask:
    """Returns a mask of a box, as far as it is in the picture."""
    mask = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    mask[max(0, top) : bottom, max(0, left) : right] = 255
    return mask
