"""Masks of stripes, dots and checks, for things and for backgrounds."""

from functools import lru_cache

from overpaint.jobs.papercut.paper import FRAME_PX, HALF_PX, SUPERSAMPLE
from PIL import Image, ImageDraw


@lru_cache(maxsize=32)
def pattern(name: str, period_px: int) -> Image.Image:
    """Returns the mask of a pattern's second colour, L 88x88, anchored to the frame's middle.

    Args:
        name: `striped`, `dotted` or `checked`.
        period_px: distance after which the pattern repeats.
    """
    large = FRAME_PX * SUPERSAMPLE
    canvas = Image.new("L", (large, large))
    pen = ImageDraw.Draw(canvas)
    step = period_px * SUPERSAMPLE
    first = HALF_PX * SUPERSAMPLE % step - 2 * step
    if name == "striped":
        _stripe(pen, first, step, large)
    elif name == "dotted":
        _dot(pen, first, step, large)
    else:
        _check(pen, first, step, large)
    return canvas.reduce(SUPERSAMPLE)


def _stripe(pen: ImageDraw.ImageDraw, first: int, step: int, large: int) -> None:
    for y in range(first, large, step):
        pen.rectangle((0, y + step // 4, large, y + step // 4 + step // 2 - 1), fill=255)


def _dot(pen: ImageDraw.ImageDraw, first: int, step: int, large: int) -> None:
    radius = step * 3 // 10
    for row, y in enumerate(range(first, large + step, step)):
        # The middle of the frame gets a dot, so that the smallest thing shows five.
        shift = step // 2 if (row - (HALF_PX * SUPERSAMPLE - first) // step) % 2 else 0
        for x in range(first + shift, large + step, step):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)


def _check(pen: ImageDraw.ImageDraw, first: int, step: int, large: int) -> None:
    half = step // 2
    for y in range(first, large, step):
        for x in range(first, large, step):
            pen.rectangle((x, y, x + half - 1, y + half - 1), fill=255)
            pen.rectangle((x + half, y + half, x + step - 1, y + step - 1), fill=255)
