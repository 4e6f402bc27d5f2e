"""`extend`: enlarges each source by margins that an edit is then to fill: outpainting.

The stages after it work on the larger picture, whose margins are its mask, so that every method
that fills a mask outpaints; `sketch`, `boxes` and whatever else is aligned with the source is then
aligned with the larger picture. The source's own pixels are kept: an edit never changes them,
however far it dilates its mask.

    [[stage]]
    operator = "extend"
    left = 0.25                 # of the source's width
    right = 0.25
    [[stage]]
    operator = "edit"
    method = "inpaint"
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import MAX_PIXELS, Picture, Pixels, decode, encode, encode_mask
from overpaint.pipeline.operator import (
    Answer,
    Calls,
    Kind,
    NewColumns,
    Operator,
    Rejected,
    row_error_as_answer,
)
from pydantic import Field, model_validator

EXTENDED_IMAGE = Column("extended_image", pa.binary(), "the enlarged source, a PNG", "stream")
EXTENDED_MASK_IMAGE = Column(
    "extended_mask_image", pa.binary(), "one-channel PNG of the enlarged size: 255 is new", "stream"
)
EXTENDED_WIDTH_PX = Column("extended_width_px", pa.int32(), "width of the enlarged source")
EXTENDED_HEIGHT_PX = Column("extended_height_px", pa.int32(), "height of the enlarged source")
EXTENDED_BOX = Column(
    "extended_box",
    pa.list_(pa.int32()),
    "the source in the enlarged picture: left, top, right, bottom, px",
)

_MOST_SHARE = 8.0
_MOST_PX = 65_535.0
_SIDES = ("left", "top", "right", "bottom")
_MARGINS = {
    side: Column(f"margin_{side}", pa.float64(), f"margin on the {side}; null is the recipe's")
    for side in _SIDES
}

Margin = Annotated[float, Field(ge=0, le=_MOST_PX, allow_inf_nan=False)]


class _Margins(NamedTuple):
    """Widths of the margins, in pixels.

    Attributes:
        left: new columns on the left.
        top: new rows above.
        right: new columns on the right.
        bottom: new rows below.
    """

    left: int
    top: int
    right: int
    bottom: int


class Extend(Operator[None]):
    """Enlarges each source by margins, and hands on the mask of what is new.

    Rows may have margins of their own, in the columns `margin_left`, `margin_top`, `margin_right`
    and `margin_bottom`, which are meant as the recipe's.

    Example:
        >>> (answer,) = Extend(left=0.5).run([{"source_image": data}], None)  # 64 x 64 px
        >>> answer["extended_width_px"], answer["extended_box"]
        (96, [32, 0, 96, 64])
    """

    kind: ClassVar[Kind] = "mask"
    replaces: ClassVar[Mapping[str, str]] = {
        c.SOURCE_IMAGE.name: EXTENDED_IMAGE.name,
        c.WIDTH_PX.name: EXTENDED_WIDTH_PX.name,
        c.HEIGHT_PX.name: EXTENDED_HEIGHT_PX.name,
        c.MASK_IMAGE.name: EXTENDED_MASK_IMAGE.name,
        c.KEPT_IMAGE.name: c.KEPT_IMAGE.name,
    }

    left: Margin = 0.0
    """Margin on the left."""
    top: Margin = 0.0
    """Margin above."""
    right: Margin = 0.0
    """Margin on the right."""
    bottom: Margin = 0.0
    """Margin below."""
    unit: Literal["share", "px"] = "share"
    """Unit of margins: `share` of the source's width or height, at most 8, or whole pixels."""
    padding: Literal["edge", "reflect"] = "edge"
    """Content of the margins before they are filled: the nearest pixel, or the source mirrored."""

    @model_validator(mode="after")
    def _margins_suit_their_unit(self) -> "Extend":
        self._check_margins({side: getattr(self, side) for side in _SIDES})
        return self

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source."""
        return (c.SOURCE_IMAGE,)

    @property
    def optional(self) -> tuple[Column, ...]:
        """Margins of a row's own."""
        return tuple(_MARGINS.values())

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The enlarged source with its size, its mask, and the source's place in it."""
        size = (EXTENDED_WIDTH_PX, EXTENDED_HEIGHT_PX, EXTENDED_BOX)
        return (EXTENDED_IMAGE, EXTENDED_MASK_IMAGE, c.KEPT_IMAGE, *size)

    def check_row(self, row: Row) -> None:
        """Checks the margins of a row, its own and the recipe's.

        Raises:
            ValueError: a margin is below 0, too large or not whole where it should be, or all are
                0.
        """
        margins = self._given(row)
        self._check_margins(margins)
        if not any(margins.values()):
            raise ValueError(f"every margin is 0: give one of {', '.join(_SIDES)}")

    def _check_margins(self, margins: Mapping[str, float]) -> None:
        most = _MOST_SHARE if self.unit == "share" else _MOST_PX
        for side, margin in margins.items():
            if not 0 <= margin <= most:
                raise ValueError(f"margin {side} = {margin:g}: give 0 to {most:g}")
            if self.unit == "px" and margin != round(margin):
                raise ValueError(f"margin {side} = {margin:g}: give whole pixels")

    def load(self) -> None:
        """Loads nothing."""

    def run(self, rows: Sequence[Row], model: None) -> list[Answer]:
        """Enlarges each source."""
        return self.run_by(rows, model, Calls())

    def run_by(self, rows: Sequence[Row], model: None, calls: Calls) -> list[Answer]:
        """Enlarges sources beside the models."""
        del model
        return calls.beside(lambda row: row_error_as_answer(self._extended, row), rows)

    def _given(self, row: Row) -> dict[str, float]:
        """Returns a row's margins by side, in the operator's unit: its own before the recipe's."""
        own = {side: row.get(column.name) for side, column in _MARGINS.items()}
        return {side: getattr(self, side) if m is None else m for side, m in own.items()}

    def _margins(self, row: Row, source: Picture) -> _Margins:
        """Returns a row's margins in pixels."""
        sides_px = {"left": source.width_px, "right": source.width_px}
        return _Margins(
            **{
                side: _whole_px(margin, sides_px.get(side, source.height_px), self.unit)
                for side, margin in self._given(row).items()
            }
        )

    def _extended(self, row: Row) -> NewColumns | Rejected:
        source = decode(row["source_image"])
        margins = self._margins(row, source)
        if not any(margins):
            return Rejected("mask_empty", "every margin is less than half a pixel of the source")
        left, top = margins.left, margins.top
        right, bottom = left + source.width_px, top + source.height_px
        width_px, height_px = right + margins.right, bottom + margins.bottom
        if width_px * height_px > MAX_PIXELS:
            message = f"{width_px}x{height_px} px with its margins is more than {MAX_PIXELS}"
            raise RowError("image_too_large", message)
        old = np.zeros((height_px, width_px), np.uint8)
        old[top:bottom, left:right] = 255
        return {
            EXTENDED_IMAGE.name: encode(_padded(source, margins, self.padding)),
            EXTENDED_MASK_IMAGE.name: encode_mask(255 - old),
            c.KEPT_IMAGE.name: encode_mask(old),
            EXTENDED_WIDTH_PX.name: width_px,
            EXTENDED_HEIGHT_PX.name: height_px,
            EXTENDED_BOX.name: [left, top, right, bottom],
        }


def _whole_px(margin: float, side_px: int, unit: str) -> int:
    return math.floor(margin * side_px + 0.5) if unit == "share" else round(margin)


def _padded(source: Picture, margins: _Margins, mode: Literal["edge", "reflect"]) -> Picture:
    """Returns a picture with margins; these are opaque, and go on with the colours as seen."""
    left, top, right, bottom = margins
    across: Any = ((top, bottom), (left, right))
    rgb: Pixels = np.pad(source.seen, (*across, (0, 0)), mode=mode)
    if source.alpha is None:
        return Picture(rgb, None, source.icc_profile)
    inside = (slice(top, top + source.height_px), slice(left, left + source.width_px))
    rgb[inside] = source.rgb
    return Picture(rgb, np.pad(source.alpha, across, constant_values=255), source.icc_profile)
