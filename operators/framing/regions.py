"""Arithmetic of regions: thresholds, components, holes and borders of boolean HW arrays."""

from typing import Any, NamedTuple

import numpy as np
from PIL import Image

Region = np.ndarray[Any, np.dtype[np.bool_]]
"""bool HW: True belongs to the region."""
Heat = np.ndarray[Any, np.dtype[np.float32]]
"""float32 HW: how surely each place belongs to a region, 0 to 1."""

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=int)


class Box(NamedTuple):
    """A rectangle of pixels; `right_px` and `bottom_px` are the first outside it."""

    left_px: float
    top_px: float
    right_px: float
    bottom_px: float


def scaled(heat: Heat, width_px: int, height_px: int) -> Heat:
    """`heat` at another size, bilinear."""
    if heat.shape == (height_px, width_px):
        return heat
    image = Image.fromarray(heat).resize((width_px, height_px), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32)


def largest(region: Region) -> Region:
    """The part with the most pixels; pixels that touch at a corner belong together."""
    from scipy import ndimage

    found: Any = ndimage.label(region, structure=_EIGHT_NEIGHBOURS)
    labels, count = found
    if count < 2:
        return region
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == int(sizes.argmax())


def without_holes(region: Region) -> Region:
    """The region with everything that it encloses."""
    from scipy import ndimage

    found: Any = ndimage.label(~region)
    labels, count = found
    is_outside = np.zeros(count + 1, dtype=np.bool_)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        is_outside[edge] = True
    return region | ~is_outside[labels]


def grown(region: Region, distance_px: int) -> Region:
    """The region grown by `distance_px` in every direction, as a square."""
    from scipy import ndimage

    if distance_px == 0:
        return region
    wide: Any = region.astype(np.uint8)
    for axis in (0, 1):
        wide = ndimage.maximum_filter1d(wide, 2 * distance_px + 1, axis, mode="constant")
    return wide.astype(np.bool_)


def box_of(region: Region) -> Box | None:
    """The smallest box around a region; null where it is empty."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    if not len(rows):
        return None
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def share(region: Region) -> float:
    """How much of the picture a region covers, 0 to 1."""
    return float(np.count_nonzero(region) / region.size)
