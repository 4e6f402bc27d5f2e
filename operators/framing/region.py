"""Where a row's edit takes place: its frame and its mask."""

from collections.abc import Hashable
from typing import NamedTuple

from overpaint.operators.framing.frame import (
    Fit,
    Frame,
    Shapes,
    Size,
    bounding_box,
    frame_crop,
    frame_whole,
)
from overpaint.operators.framing.masks import feather, grow
from overpaint.pipeline.columns import Row
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import Picture, Pixels, decode, decode_mask


class Region(NamedTuple):
    """What may change, in the source's pixels.

    Attributes:
        grown: uint8 HW, 255 = may change.
        alpha: uint8 HW, how much of the edit is pasted; 0 wherever `grown` is.
    """

    grown: Pixels
    alpha: Pixels


def bucket(row: Row, shapes: Shapes, fit: Fit) -> Hashable:
    """The shape of the picture that a model sees of a row; None where that cannot be told."""
    if fit == "crop":
        return None
    try:
        picture = decode(row["source_image"])
    except RowError:
        # `run` raises it again, where it is recorded.
        return None
    return shapes.nearest(picture.width_px, picture.height_px)


def frame(
    row: Row, shapes: Shapes, fit: Fit, resolution_px: int, multiple_px: int, crop_margin: float
) -> Frame:
    """What the model sees of a row's source.

    Raises:
        RowError: the source or the mask cannot be decoded.
    """
    picture = decode(row["source_image"])
    if fit == "crop":
        square = shapes.pixels(Size(shapes.base, shapes.base), resolution_px, multiple_px)
        found = source_mask(row, picture)
        if found is not None:
            return frame_crop(found, square, crop_margin)
        return frame_whole(picture.width_px, picture.height_px, square)
    shape = shapes.nearest(picture.width_px, picture.height_px)
    size = shapes.pixels(shape, resolution_px, multiple_px)
    return frame_whole(picture.width_px, picture.height_px, size)


def source_mask(row: Row, picture: Picture) -> Pixels | None:
    """A row's mask, uint8 HW 0 and 255 of the source's size; None where it has none.

    Raises:
        RowError: it cannot be decoded.
    """
    data = row.get("mask_image")
    if data is None:
        return None
    return grow(decode_mask(data, picture.width_px, picture.height_px), 0)


def region(mask: Pixels, placed: Frame, grow_px: int, feather_px: int) -> Region:
    """What may change and how it is pasted.

    Args:
        mask: uint8 HW, 0 and 255.
        placed: the frame; both widths are in pixels of its picture.
        grow_px: added all around.
        feather_px: width of the ramp inside the grown mask's edge.
    """
    grown = grow(mask, round(grow_px * placed.scale))
    return Region(grown, feather(grown, round(feather_px * placed.scale)))


def is_empty(mask: Pixels) -> bool:
    """Whether nothing may change."""
    return bounding_box(mask) is None
