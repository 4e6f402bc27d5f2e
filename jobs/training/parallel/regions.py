"""Masks of regions to fill: an item's in four precisions, boxes, brush strokes and margins.

Masks are uint8 HW of 64 px, 0 or 255.
"""

import numpy as np
from overpaint.jobs.papercut.changes import Mask
from overpaint.jobs.papercut.scene import SIZE_PX
from overpaint.jobs.papercut.views import box_of
from PIL import Image, ImageDraw, ImageFilter

NUM_PRECISIONS = 4
"""Number of precisions of an item's mask, from its exact shape, 0, to its box, 3."""

# Standard deviation of the blur at each precision but the last, in pixels.
_BLUR_PX = (0.0, 1.5, 3.0)


def object_mask(shape: Mask, precision: int, rng: np.random.Generator) -> Mask:
    """Returns a mask around an item: exact, blurred and cut at half, or its box.

    Args:
        shape: pixels of the item, at least one.
        precision: 0 (exact) to 3 (box).
        rng: source of the size of the box.
    """
    if precision == NUM_PRECISIONS - 1:
        return box_mask(shape, rng)
    blur_px = _BLUR_PX[precision]
    if not blur_px:
        return shape
    blurred = Image.fromarray(shape).filter(ImageFilter.GaussianBlur(blur_px))
    return np.where(np.asarray(blurred) >= 128, 255, 0).astype(np.uint8)


def box_mask(shape: Mask, rng: np.random.Generator) -> Mask:
    """Returns the bounding box of a shape, each side grown by 10 to 20 % about the centre."""
    left, top, right, bottom, _ = box_of(shape, "")
    growth = rng.uniform(0.05, 0.1)
    dx, dy = np.ceil(growth * (right - left)), np.ceil(growth * (bottom - top))
    mask = np.zeros_like(shape)
    mask[max(0, int(top - dy)) : int(bottom + dy), max(0, int(left - dx)) : int(right + dx)] = 255
    return mask


def context_mask(rng: np.random.Generator) -> Mask:
    """Returns a mask that knows no item: boxes, brush strokes or margins, equally likely."""
    draw = (_random_boxes, _brush_strokes, _margins)[rng.integers(3)]
    return draw(rng)


def _random_boxes(rng: np.random.Generator) -> Mask:
    mask = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    for _ in range(rng.integers(1, 4)):
        width, height = rng.integers(10, 37, size=2)
        left, top = rng.integers(SIZE_PX - width + 1), rng.integers(SIZE_PX - height + 1)
        mask[top : top + height, left : left + width] = 255
    return mask


def _brush_strokes(rng: np.random.Generator) -> Mask:
    image = Image.new("L", (SIZE_PX, SIZE_PX))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(1, 4)):
        width = int(rng.integers(5, 15))
        points = rng.integers(SIZE_PX, size=(int(rng.integers(2, 6)), 2)).tolist()
        pen.line([(x, y) for x, y in points], fill=255, width=width)
        for x, y in points:
            pen.circle((x, y), width / 2, fill=255)
    return np.asarray(image, np.uint8)


def _margins(rng: np.random.Generator) -> Mask:
    """Returns margins of one to four sides; between opposite ones 16 pixels or more stay."""
    sides = set(rng.permutation(4)[: rng.integers(1, 5)].tolist())
    left, top, right, bottom = (
        int(width) if side in sides else 0 for side, width in enumerate(rng.integers(6, 25, size=4))
    )
    mask = np.full((SIZE_PX, SIZE_PX), 255, np.uint8)
    mask[top : SIZE_PX - bottom, left : SIZE_PX - right] = 0
    return mask
