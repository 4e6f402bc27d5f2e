"""`check_color`: the colour that an edit gave, beside the one that was asked for.

No model is needed: pixels inside the mask have the name of the nearest of eleven basic colours.
Edits of the type color are checked; others have only the name.
"""

from typing import ClassVar

import numpy as np
import pyarrow as pa
from overpaint.operators.measures.color_names import asked_color, color_shares
from overpaint.operators.measures.edit_words import EDIT_WORDS, words_of
from overpaint.operators.measures.pair import Pair
from overpaint.operators.measures.pixel_measure import PixelMeasure
from overpaint.pipeline.columns import Column, Row, score
from overpaint.pipeline.images import MAY_CHANGE
from overpaint.pipeline.operator import NewColumns
from pydantic import Field

DOMINANT_COLOR = Column(
    "dominant_color", pa.string(), "name of the edit's most frequent colour inside the mask"
)
COLOR_SHARE = score("color_share", "share of the mask that has the colour asked for, 0 to 1")
COLOR_CHECK = score("color_check", "1 where that share reaches its bound, and grew; else 0")


class CheckColor(PixelMeasure):
    """Names the colour inside the mask that was really editable, and checks edits of colour.

    The names are red, orange, yellow, green, blue, purple, pink, brown, white, gray and black; the
    one that was asked for is the last that `target_class` or the instruction names. Only pixels
    that changed count, where some did; without a mask, they are looked for in the whole picture.
    """

    columns: ClassVar[tuple[Column, ...]] = (DOMINANT_COLOR, COLOR_SHARE, COLOR_CHECK)
    reads: ClassVar[tuple[Column, ...]] = EDIT_WORDS

    min_share: float = Field(default=0.3, gt=0, le=1)
    """Least share of the changed pixels that has the colour asked for."""

    def measure(self, pair: Pair, row: Row) -> NewColumns:
        """Returns the colour of one row, and whether it is the one that was asked for."""
        region = None if pair.mask is None else pair.mask >= MAY_CHANGE
        changed = np.abs(pair.source.astype(np.int16) - pair.edited).max(axis=2) > 8
        if region is not None and (changed & region).any():
            region = changed & region
        elif region is None:
            region = changed if changed.any() else changed | True
        before, after = (color_shares(pixels[region]) for pixels in pair[:2])
        wanted = _wanted(row)
        share = after.get(wanted) if wanted else None
        check = None
        if wanted is not None and share is not None:
            check = float(share >= self.min_share and share > before[wanted])
        return {
            DOMINANT_COLOR.name: max(after, key=lambda name: after[name]) if after else None,
            COLOR_SHARE.name: share,
            COLOR_CHECK.name: check,
        }


def _wanted(row: Row) -> str | None:
    """Returns the colour that an edit of colour asks for."""
    words = words_of(row)
    if words.edit_type != "color":
        return None
    return asked_color(words.new) or asked_color(row.get("instruction"))
