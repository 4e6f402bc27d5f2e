"""Regions of a row's source: the frame that a model sees, and the pixels that may change."""

from collections.abc import Hashable
from typing import NamedTuple

from overpaint.operators.framing.frame import (
    FitMode,
    Frame,
    Shapes,
    Size,
    frame_crop,
    frame_whole,
)
from overpaint.operators.framing.masks import binarise, bounding_box, dilate, feather
from overpaint.pipeline.columns import Row
from overpaint.pipeline.images import Picture, Pixels, decode, decode_mask


class Region(NamedTuple):
    """Pixels of a source that may change.

    Attributes:
        editable: uint8 HW of the source's size, 255 = may change.
        alpha: uint8 HW of the source's size: how much of the edit is pasted; 0 wherever `editable`
            is 0.
    """

    editable: Pixels
    alpha: Pixels


def picture_bucket(row: Row, shapes: Shapes, fit: FitMode) -> Hashable:
    """Returns the shape of the picture that a model sees of a row; None where all are one shape.

    Args:
        row: has `width_px` and `height_px`.
        shapes: shapes that the picture may have.
        fit: `crop` always gives the square.
    """
    return None if fit == "crop" else shapes.nearest(row["width_px"], row["height_px"])


def frame_row(
    row: Row, shapes: Shapes, fit: FitMode, resolution_px: int, multiple_px: int, crop_margin: float
) -> Frame:
    """Frames what the model sees of a row's source.

    Args:
        row: has `source_image`, and `mask_image` where the plan has it.
        shapes: shapes that the picture may have.
        fit: the whole source, or a square around the mask.
        resolution_px: side of the square shape.
        multiple_px: number that divides the picture's sides.
        crop_margin: context around the mask, as a share of the masked box's longer side.

    Raises:
        RowError: the source or the mask cannot be decoded.
    """
    picture = decode(row["source_image"])
    if fit == "crop":
        square = shapes.pixels(Size(shapes.base, shapes.base), resolution_px, multiple_px)
        mask = source_mask(row, picture)
        if mask is not None:
            return frame_crop(mask, square, crop_margin)
        return frame_whole(picture.width_px, picture.height_px, square)
    shape = shapes.nearest(picture.width_px, picture.height_px)
    size = shapes.pixels(shape, resolution_px, multiple_px)
    return frame_whole(picture.width_px, picture.height_px, size)


def source_mask(row: Row, picture: Picture) -> Pixels | None:
    """Returns a row's mask, uint8 HW 0 and 255 of the source's size; None where it has none.

    Args:
        row: has `mask_image` where the plan has it.
        picture: the row's source.

    Raises:
        RowError: the mask cannot be decoded.
    """
    return _mask_of(row.get("mask_image"), picture)


def kept_mask(row: Row, picture: Picture) -> Pixels | None:
    """Returns what of a row's source never changes, uint8 HW 0 and 255; None where all may.

    Args:
        row: has `kept_image` where the plan has it.
        picture: the row's source.

    Raises:
        RowError: the mask cannot be decoded.
    """
    return _mask_of(row.get("kept_image"), picture)


def _mask_of(data: bytes | None, picture: Picture) -> Pixels | None:
    if data is None:
        return None
    return binarise(decode_mask(data, picture.width_px, picture.height_px))


def editable_region(
    mask: Pixels, frame: Frame, dilate_px: int, feather_px: int, kept: Pixels | None = None
) -> Region:
    """Dilates a mask to the region that may change, and feathers how the edit is pasted into it.

    Args:
        mask: uint8 HW, 0 and 255, of the source's size.
        frame: frame of the source; both widths are in pixels of its picture.
        dilate_px: width that is added all around.
        feather_px: width of the ramp inside the dilated mask's edge.
        kept: uint8 HW, 0 and 255: pixels that may not change even so.
    """
    editable = dilate(mask, round(dilate_px * frame.scale))
    if kept is not None:
        editable = editable & ~kept
    return Region(editable, feather(editable, round(feather_px * frame.scale)))


def is_empty(mask: Pixels) -> bool:
    """Tells whether nothing may change."""
    return bounding_box(mask) is None
