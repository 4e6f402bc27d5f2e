"""Which part of a source the model sees, at what size, and how its answer comes back.

The model's picture has one of a few shapes of about equal area, so that unrelated images share a
call. The box of the source keeps its proportions in it; what is left over repeats the edge.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from overpaint.pipeline.images import Pixels
from PIL import Image

Fit = Literal["whole", "crop"]
"""`whole`: the model sees the whole image; `crop`: a square around the mask, at full resolution."""


Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; right and bottom are not in it."""

_STRIP_PX = 512


class Size(NamedTuple):
    """Width and height in pixels, or in the units of `Shapes`."""

    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class Shapes:
    """The shapes that a model's picture may have.

    Attributes:
        base: the side of the square shape, in the units of `sizes`.
        sizes: widths and heights of about `base` x `base`; one of them is the square.
    """

    base: int
    sizes: tuple[Size, ...]

    def nearest(self, width_px: int, height_px: int) -> Size:
        """The shape whose proportions are nearest to those of an image."""
        wanted = math.log(width_px / height_px)
        return min(self.sizes, key=lambda size: abs(wanted - math.log(size[0] / size[1])))

    def pixels(self, shape: Size, resolution_px: int, multiple_px: int) -> Size:
        """A shape in pixels, where the square has sides of `resolution_px`."""
        sides = (side * resolution_px / self.base for side in shape)
        width_px, height_px = (max(1, round(side / multiple_px)) * multiple_px for side in sides)
        return Size(width_px, height_px)


UNET_SHAPES = Shapes(8, (Size(6, 11), Size(7, 9), Size(8, 8), Size(9, 7), Size(11, 6)))
"""For UNets trained on squares, in eighths of their side: 1:1, 9:7 and 11:6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A box of the source and where it lies in the model's picture.

    Attributes:
        box: left, top, right and bottom in the source, in pixels.
        size: the model's picture.
        content: the part of the picture that the scaled box takes; it lies in the middle.
    """

    box: Box
    size: Size
    content: Size

    @property
    def scale(self) -> float:
        """Source pixels for one pixel of the model's picture."""
        left, top, right, bottom = self.box
        return max((right - left) / self.content.width_px, (bottom - top) / self.content.height_px)

    @property
    def padding(self) -> tuple[int, int]:
        """Pixels left of and above the content."""
        return (
            (self.size.width_px - self.content.width_px) // 2,
            (self.size.height_px - self.content.height_px) // 2,
        )


def frame_whole(width_px: int, height_px: int, size: Size) -> Frame:
    """The whole source in a picture of the given size."""
    return _frame((0, 0, width_px, height_px), size)


def frame_crop(mask: Pixels, size: Size, margin: float) -> Frame:
    """A box around what may change, at full resolution where it fits the picture.

    Args:
        mask: uint8 HW of the source's size, 255 = may change; where it is empty the box is whole.
        size: the model's picture.
        margin: context on each side, as a share of the masked box's longer side.
    """
    height_px, width_px = mask.shape
    bounds = bounding_box(mask)
    if bounds is None:
        return frame_whole(width_px, height_px, size)
    left, top, right, bottom = bounds
    longest = max(right - left, bottom - top)
    wanted = max(longest + 2 * round(margin * longest), min(size))
    across = _span((left + right) // 2, wanted, width_px)
    down = _span((top + bottom) // 2, wanted, height_px)
    return _frame((across[0], down[0], across[1], down[1]), size)


def view(frame: Frame, pixels: Pixels) -> Pixels:
    """What the model sees: RGB uint8 HWC of the frame's size."""
    content = _resized(_cut(frame, pixels), frame.content, Image.Resampling.LANCZOS)
    return _padded(frame, content, "edge")


def view_mask(frame: Frame, mask: Pixels) -> np.ndarray:
    """A mask as the model sees it: float32 HW, 0-1, the share of each pixel that may change."""
    content = _resized(_cut(frame, mask), frame.content, Image.Resampling.BOX)
    return _padded(frame, content, "constant").astype(np.float32) / 255.0


def paste(frame: Frame, source: Pixels, edited: Pixels, alpha: Pixels | None) -> Pixels:
    """The source with the model's answer in its place.

    Args:
        frame: where the answer belongs.
        source: RGB uint8 HWC; it is not changed.
        edited: RGB uint8 HWC of the frame's size.
        alpha: uint8 HW of the source's size: 0 keeps the source's byte, 255 takes the answer's;
            None takes the answer in the whole box.
    """
    result = source.copy()
    box = frame.box if alpha is None else _shared_box(frame.box, bounding_box(alpha))
    # In strips, and only where alpha is: a source may have 10^8 pixels.
    for top in range(box[1], box[3], _STRIP_PX):
        strip = (box[0], top, box[2], min(top + _STRIP_PX, box[3]))
        answer = _answer(frame, edited, strip)
        window = result[strip[1] : strip[3], strip[0] : strip[2]]
        weights = None if alpha is None else alpha[strip[1] : strip[3], strip[0] : strip[2]]
        window[...] = answer if weights is None else _mixed(window, answer, weights)
    return result


def bounding_box(mask: Pixels) -> Box | None:
    """Left, top, right and bottom of what is not zero; None where all is."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _frame(box: Box, size: Size) -> Frame:
    width_px, height_px = box[2] - box[0], box[3] - box[1]
    scale = min(size.width_px / width_px, size.height_px / height_px)
    content = Size(max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    return Frame(box=box, size=size, content=content)


def _span(centre_px: int, wanted_px: int, length_px: int) -> tuple[int, int]:
    """A stretch of at most `wanted_px` around a point, pushed inside 0 to `length_px`."""
    wanted_px = min(wanted_px, length_px)
    start = min(max(0, centre_px - wanted_px // 2), length_px - wanted_px)
    return start, start + wanted_px


def _shared_box(box: Box, other: Box | None) -> Box:
    """Where two boxes overlap; empty where they do not or there is no other."""
    if other is None:
        return (box[0], box[1], box[0], box[1])
    return (
        max(box[0], other[0]),
        max(box[1], other[1]),
        min(box[2], other[2]),
        min(box[3], other[3]),
    )


def _answer(frame: Frame, edited: Pixels, box: Box) -> Pixels:
    """The model's answer for a box of the source, at the source's size."""
    x, y = frame.padding
    content = edited[y : y + frame.content.height_px, x : x + frame.content.width_px]
    left, top, right, bottom = frame.box
    if content.shape[:2] == (bottom - top, right - left):
        return content[box[1] - top : box[3] - top, box[0] - left : box[2] - left]
    across = frame.content.width_px / (right - left)
    down = frame.content.height_px / (bottom - top)
    part = (
        (box[0] - left) * across,
        (box[1] - top) * down,
        (box[2] - left) * across,
        (box[3] - top) * down,
    )
    image = Image.fromarray(np.ascontiguousarray(content))
    size = (box[2] - box[0], box[3] - box[1])
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS, box=part), dtype=np.uint8)


def _cut(frame: Frame, pixels: Pixels) -> Pixels:
    left, top, right, bottom = frame.box
    return pixels[top:bottom, left:right]


def _resized(pixels: Pixels, size: Size, resampling: Image.Resampling) -> Pixels:
    if pixels.shape[:2] == (size.height_px, size.width_px):
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize(size, resampling, reducing_gap=3.0), dtype=np.uint8)


def _padded(frame: Frame, content: Pixels, mode: Literal["edge", "constant"]) -> Pixels:
    x, y = frame.padding
    right = frame.size.width_px - frame.content.width_px - x
    below = frame.size.height_px - frame.content.height_px - y
    widths: Sequence[tuple[int, int]] = [(y, below), (x, right)] + [(0, 0)] * (content.ndim - 2)
    return np.pad(content, widths, mode=mode)


def _mixed(source: Pixels, answer: Pixels, alpha: Pixels) -> Pixels:
    """Exactly the source's byte where alpha is 0 and the answer's where it is 255."""
    weights = alpha[..., None].astype(np.uint32)
    mixed = source * (255 - weights) + answer * weights
    return ((mixed + 127) // 255).astype(np.uint8)
