"""Strokes: the source, painted over with flat strokes in the colours of the edited picture."""

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import numpy as np
from overpaint.jobs.papercut.condition import DrawnCondition, Value
from overpaint.jobs.papercut.draw import draw
from overpaint.jobs.papercut.edits import DrawnEdit
from overpaint.jobs.papercut.palette import Rgb
from overpaint.jobs.papercut.sample import PortableRandom
from PIL import Image

BRUSH_PX = 4
STEP_PX = 5
MIN_LENGTH_PX = 3
# Neighbouring colours nearer than this are painted in one stroke.
TOLERANCE = 60


class _Stroke(NamedTuple):
    left_px: int
    right_px: int
    rgb: Rgb


class Strokes(DrawnCondition):
    """Colour strokes as a user paints them (SDEdit, arXiv 2108.01073), of every edit type.

    `strokes_uri`: RGB, the source's size. It is the source, with flat horizontal strokes of 4 px in
    the mask, 5 px apart; each has the colour of the target in its middle, and ends where that
    colour ends, give or take a pixel. It lies over the source.
    """

    columns: ClassVar[tuple[str, ...]] = ("strokes_uri",)

    def values(self, edit: DrawnEdit, rng: PortableRandom) -> dict[str, Value]:
        """Returns the source with the strokes."""
        source, target = (np.asarray(draw(scene)) for scene in (edit.source, edit.target))
        painted = source.copy()
        for y in range(rng.below(STEP_PX), len(target), STEP_PX):
            for stroke in _strokes(target[y].tolist(), (edit.mask[y] > 0).tolist()):
                left, right = stroke.left_px - rng.below(2), stroke.right_px + rng.below(2)
                top = max(0, y - BRUSH_PX // 2)
                painted[top : y + BRUSH_PX // 2, max(0, left) : right] = stroke.rgb
        painted[edit.mask == 0] = source[edit.mask == 0]
        return {"strokes_uri": Image.fromarray(painted)}


def _strokes(colours: list[Rgb], in_mask: list[bool]) -> Iterator[_Stroke]:
    """Yields the strokes of one line: runs of like colour in the mask."""
    start = 0
    for x in range(1, len(colours) + 1):
        is_on = x < len(colours) and in_mask[x] and in_mask[start]
        if is_on and _are_alike(colours[x], colours[start]):
            continue
        if in_mask[start] and x - start >= MIN_LENGTH_PX:
            yield _Stroke(start, x, colours[(start + x) // 2])
        start = x


def _are_alike(first: Rgb, second: Rgb) -> bool:
    return sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) < TOLERANCE * TOLERANCE
