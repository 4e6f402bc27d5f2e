"""A source beside its edit: the pixels that measures compare."""

from typing import Any, NamedTuple

import numpy as np
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Row
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import MAY_CHANGE, Picture, Pixels, decode, decode_mask

Kept = np.ndarray[Any, np.dtype[np.bool_]]
"""bool HW: True where a picture should not change."""

PAIR = (c.SOURCE_IMAGE, c.EDITED_IMAGE)
"""Columns of a pair."""
MASKS = (c.MASK_IMAGE, c.EDITABLE_MASK_IMAGE)
"""Columns that say where an edit may change, used where a plan has them."""


class Pair(NamedTuple):
    """A source and its edit, of one size.

    Attributes:
        source: RGB uint8 HWC.
        edited: RGB uint8 HWC.
        mask: uint8 HW, 255 = was really editable; None where all was.
    """

    source: Pixels
    edited: Pixels
    mask: Pixels | None = None

    @property
    def kept(self) -> Kept:
        """Pixels that should not change, bool HW; all of them where there is no mask."""
        if self.mask is None:
            return np.ones(self.source.shape[:2], np.bool_)
        return self.mask < MAY_CHANGE


def read_pair(row: Row) -> Pair:
    """Decodes the pair of a row, with the mask that was really editable.

    Args:
        row: has `source_image` and `edited_image`, and `editable_mask_image` or `mask_image` where
            the plan has them.

    Raises:
        RowError: an image cannot be decoded, or `edited_size`: the edited image is not of its
            source's size.
    """
    return pair_of(decode(row["source_image"]), decode(row["edited_image"]), row)


def pair_of(source: Picture, edited: Picture, row: Row) -> Pair:
    """Returns a decoded pair, with the mask of its row that was really editable.

    Args:
        source: the row's source.
        edited: its edit.
        row: has `editable_mask_image` or `mask_image` where the plan has them.

    Raises:
        RowError: the mask cannot be decoded, or `edited_size`: the edited image is not of its
            source's size.
    """
    if source.rgb.shape != edited.rgb.shape:
        raise RowError(
            "edited_size",
            f"the edited image is {edited.width_px}x{edited.height_px} px, its source "
            f"{source.width_px}x{source.height_px} px",
        )
    return Pair(source.rgb, edited.rgb, editable_mask(row, source.width_px, source.height_px))


def editable_mask(row: Row, width_px: int, height_px: int) -> Pixels | None:
    """Decodes the mask that was really editable, or else the one that was asked for.

    Args:
        row: has `editable_mask_image` or `mask_image` where the plan has them.
        width_px: width of the source.
        height_px: height of the source.

    Returns:
        uint8 HW, 255 = may change; None where the row has no mask.

    Raises:
        RowError: the mask cannot be decoded.
    """
    editable: bytes | None = row.get("editable_mask_image")
    data: bytes | None = row.get("mask_image") if editable is None else editable
    return decode_mask(data, width_px, height_px) if data else None
