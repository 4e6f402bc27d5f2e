"""`realign`: takes a small shift, zoom or turn out of an edit, and pastes the source back.

It stands right after the edit, whose picture it takes the place of: what is stored, scored and
judged is the corrected picture, and what was done to it is in columns.

    [[stage]]
    operator = "edit"
    checkpoint = "owner/name"
    group = "gpu"

    [[stage]]
    operator = "realign"
    group = "gpu"

    [[stage]]
    operator = "align"              # what is left
    group = "gpu"

A row whose alignment cannot be told, is none, or is beyond the bounds keeps the edit as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from overpaint.operators.framing.masks import binarise, feather
from overpaint.operators.measures.alignment import Alignment, aligned, measure_alignment
from overpaint.operators.measures.pair import MASKS, PAIR, read_pair
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row, score
from overpaint.pipeline.images import Pixels, decode, encode
from overpaint.pipeline.operator import (
    NOT_IN_FINGERPRINT,
    Answer,
    Calls,
    Kind,
    NewColumns,
    Operator,
    row_error_as_answer,
)
from pydantic import Field

REALIGNED_IMAGE = Column("realigned_image", pa.binary(), "the corrected edit, encoded", "stream")
REALIGNED_MASK_IMAGE = Column(
    "realigned_mask_image", pa.binary(), "the mask that was really editable, a PNG", "stream"
)
REALIGNED = Column("realigned", pa.bool_(), "true where the edit was corrected")
REALIGN_DX_PX = score("realign_dx_px", "shift to the right that was taken out, px")
REALIGN_DY_PX = score("realign_dy_px", "shift downwards that was taken out, px")
REALIGN_SCALE = score("realign_scale", "scale that was taken out; 1.02 was zoomed in")
REALIGN_ROTATION_DEG = score("realign_rotation_deg", "counter-clockwise rotation taken out")


class Realign(Operator[None]):
    """Corrects a small shift, scale and rotation of an edit against its source.

    The edit is warped back by cubic splines. Outside the mask that was really editable, and where
    the edit has no pixels, the result has the source's own.
    """

    kind: ClassVar[Kind] = "edit"
    replaces: ClassVar[Mapping[str, str]] = {
        c.EDITED_IMAGE.name: REALIGNED_IMAGE.name,
        c.EDITABLE_MASK_IMAGE.name: REALIGNED_MASK_IMAGE.name,
    }

    min_shift_px: float = Field(default=0.1, ge=0)
    """Least shift that is corrected, in pixels of the source; any scale or rotation is one of the
    corner that they move most."""
    max_shift: float = Field(default=0.05, ge=0, le=1)
    """Greatest shift that is corrected, as a share of the source's longer side."""
    max_scale: float = Field(default=1.25, ge=1, le=1.5)
    """Greatest scale that is corrected, and the least one is its inverse."""
    max_rotation_deg: float = Field(default=5.0, ge=0, le=45)
    """Greatest rotation that is corrected, in degrees."""
    min_confidence: float = Field(default=0.5, ge=0, le=1)
    """Least confidence of an alignment that is corrected."""
    paste_back: bool = True
    """Whether what is outside the mask becomes the source's, where there is a mask."""
    feather_px: int = Field(default=4, ge=0, le=1024)
    """Width of the ramp inside the mask's edge over which the source is pasted back, in pixels."""
    batch_size: int = Field(default=8, ge=1, le=4096, json_schema_extra=NOT_IN_FINGERPRINT)
    """Rows in one call."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """Both images, and the format in which the run stores images."""
        return (*PAIR, c.IMAGE_FORMAT)

    @property
    def optional(self) -> tuple[Column, ...]:
        """The masks."""
        return MASKS

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The corrected edit with its mask, and what was taken out of it."""
        figures = (REALIGN_DX_PX, REALIGN_DY_PX, REALIGN_SCALE, REALIGN_ROTATION_DEG)
        return (REALIGNED_IMAGE, REALIGNED_MASK_IMAGE, REALIGNED, *figures)

    def load(self) -> None:
        """Loads nothing."""

    def run(self, rows: Sequence[Row], model: None) -> list[Answer]:
        """Corrects each edit."""
        return self.run_by(rows, model, Calls())

    def run_by(self, rows: Sequence[Row], model: None, calls: Calls) -> list[Answer]:
        """Corrects edits beside the models."""
        del model
        return calls.beside(lambda row: row_error_as_answer(self._corrected, row), rows)

    def _corrected(self, row: Row) -> NewColumns:
        pair = read_pair(row)
        found = measure_alignment(pair)
        height, width = pair.source.shape[:2]
        if found is None or not self._is_to_correct(found, width, height):
            return _answer(row, row["edited_image"], None)
        warped, inside = aligned(pair.edited, found.map)
        rgb = np.where(inside[..., None], warped, pair.source)
        if self.paste_back and pair.mask is not None:
            alpha = feather(binarise(pair.mask), self.feather_px)
            rgb = _mixed(rgb, pair.source, alpha)
        picture = replace(decode(row["edited_image"]), rgb=rgb)
        return _answer(row, encode(picture, row["image_format"]), found)

    def _is_to_correct(self, found: Alignment, width_px: int, height_px: int) -> bool:
        """Tells whether an alignment is within the bounds, and more than none."""
        corners = [(x, y) for x in (0, width_px - 1) for y in (0, height_px - 1)]
        moved_px = max(float(np.hypot(*found.map.shift_at(*corner))) for corner in corners)
        shift_px = float(np.hypot(found.dx_px, found.dy_px))
        return (
            moved_px >= self.min_shift_px
            and shift_px <= self.max_shift * max(width_px, height_px)
            and 1 / self.max_scale <= found.scale <= self.max_scale
            and abs(found.rotation_deg) <= self.max_rotation_deg
            and found.confidence >= self.min_confidence
        )


def _answer(row: Row, image: bytes, found: Alignment | None) -> NewColumns:
    return {
        REALIGNED_IMAGE.name: image,
        REALIGNED_MASK_IMAGE.name: row.get(c.EDITABLE_MASK_IMAGE.name),
        REALIGNED.name: found is not None,
        REALIGN_DX_PX.name: found.dx_px if found else 0.0,
        REALIGN_DY_PX.name: found.dy_px if found else 0.0,
        REALIGN_SCALE.name: found.scale if found else 1.0,
        REALIGN_ROTATION_DEG.name: found.rotation_deg if found else 0.0,
    }


def _mixed(edited: Pixels, source: Pixels, alpha: Pixels) -> Pixels:
    """Returns the edit over the source by alpha, uint8 HW; the source's own where alpha is 0."""
    share: Any = alpha[..., None].astype(np.float32) / 255
    mixed = edited * share + source * (1 - share)
    return (mixed + 0.5).astype(np.uint8)
