"""Frames: the part of a source that a model sees, its size there, and the way back.

The model's picture has one of a few shapes of about equal area, so that unrelated images share a
call. The box of the source keeps its proportions in the picture; the rest repeats the edge.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from overpaint.operators.framing.masks import Box, bounding_box
from overpaint.pipeline.images import Pixels
from PIL import Image

FitMode = Literal["whole", "crop"]
"""`whole`: the model sees the whole image; `crop`: a square around the mask, at full resolution."""

Weights = np.ndarray[Any, np.dtype[np.float32]]
"""float32 HW, 0 to 1: how much of each pixel may change."""
Points = np.ndarray[Any, np.dtype[np.float64]]
"""float64 ...2: x and y in pixels; pixel 0 reaches from 0.0 to 1.0."""

_STRIP_PX = 512


class Size(NamedTuple):
    """Width and height in pixels, or in the units of `Shapes`.

    Attributes:
        width_px: columns.
        height_px: rows.
    """

    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class Shapes:
    """Shapes that a model's picture may have.

    Attributes:
        base: the side of the square shape, in the units of `sizes`.
        sizes: widths and heights of about `base` x `base`; one of them is the square.
    """

    base: int
    sizes: tuple[Size, ...]

    def nearest(self, width_px: int, height_px: int) -> Size:
        """Returns the shape whose proportions are nearest to those of an image."""
        wanted = math.log(width_px / height_px)
        return min(self.sizes, key=lambda size: abs(wanted - math.log(size[0] / size[1])))

    def pixels(self, shape: Size, resolution_px: int, multiple_px: int) -> Size:
        """Returns a shape in pixels, where the square has sides of `resolution_px`.

        Args:
            shape: one of `sizes`, or the square of side `base`.
            resolution_px: side of the square.
            multiple_px: number that divides both sides of the result.

        Example:
            >>> UNET_SHAPES.pixels(UNET_SHAPES.nearest(1920, 1080), 512, 64)
            Size(width_px=704, height_px=384)
        """
        sides = (side * resolution_px / self.base for side in shape)
        width_px, height_px = (max(1, round(side / multiple_px)) * multiple_px for side in sides)
        return Size(width_px, height_px)


UNET_SHAPES = Shapes(8, (Size(6, 11), Size(7, 9), Size(8, 8), Size(9, 7), Size(11, 6)))
"""For UNets trained on squares, in eighths of their side: 1:1, 9:7 and 11:6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A box of the source and its place in the model's picture.

    Attributes:
        source: size of the source.
        box: box of the source, in pixels.
        size: size of the model's picture.
        content: size of the scaled box, which is in the middle of the picture.
    """

    source: Size
    box: Box[int]
    size: Size
    content: Size

    @property
    def scale(self) -> float:
        """Source pixels for one pixel of the model's picture."""
        return max(self._source_px_per_pixel)

    @property
    def padding(self) -> tuple[int, int]:
        """Pixels left of and above the content."""
        return (
            (self.size.width_px - self.content.width_px) // 2,
            (self.size.height_px - self.content.height_px) // 2,
        )

    def to_view(self, points: ArrayLike) -> Points:
        """Returns places of the source as places of the model's picture.

        Args:
            points: x and y in the last axis; what is outside the box comes to be outside the
                content.

        Example:
            >>> frame_whole(200, 100, Size(64, 32)).to_view([[0, 0], [100, 50]])
            array([[ 0.,  0.],
                   [32., 16.]])
        """
        inside = np.asarray(points, np.float64) - self.box[:2]
        return inside / self._source_px_per_pixel + self.padding

    def to_source(self, points: ArrayLike) -> Points:
        """Returns places of the model's picture as places of the source.

        Args:
            points: x and y in the last axis.
        """
        inside = np.asarray(points, np.float64) - self.padding
        return inside * self._source_px_per_pixel + self.box[:2]

    @property
    def _source_px_per_pixel(self) -> tuple[float, float]:
        """Source pixels for one pixel of the picture, across and down: sizes are whole."""
        left, top, right, bottom = self.box
        return (right - left) / self.content.width_px, (bottom - top) / self.content.height_px


def frame_whole(width_px: int, height_px: int, size: Size) -> Frame:
    """Frames the whole source in a picture of a size.

    Args:
        width_px: of the source.
        height_px: of the source.
        size: size of the model's picture.
    """
    return _frame(Size(width_px, height_px), Box(0, 0, width_px, height_px), size)


def frame_crop(mask: Pixels, size: Size, margin: float) -> Frame:
    """Frames a box around what may change, at full resolution where it fits the picture.

    Args:
        mask: uint8 HW of the source's size, 255 = may change; where it is empty the box is whole.
        size: size of the model's picture.
        margin: context on each side, as a share of the masked box's longer side.
    """
    height_px, width_px = mask.shape
    bounds = bounding_box(mask)
    if bounds is None:
        return frame_whole(width_px, height_px, size)
    left, top, right, bottom = bounds
    longest = max(right - left, bottom - top)
    wanted_px = max(longest + 2 * round(margin * longest), min(size))
    across = _span((left + right) // 2, wanted_px, width_px)
    down = _span((top + bottom) // 2, wanted_px, height_px)
    return _frame(Size(width_px, height_px), Box(across[0], down[0], across[1], down[1]), size)


def view(frame: Frame, pixels: Pixels) -> Pixels:
    """Returns what the model sees of a picture: RGB uint8 HWC of the frame's size.

    Args:
        frame: frame of the source.
        pixels: RGB uint8 HWC that shows what the source shows; of any size.
    """
    return _padded(frame, _content(frame, pixels, Image.Resampling.LANCZOS), "edge")


def view_labels(frame: Frame, pixels: Pixels) -> Pixels:
    """Returns what the model sees of a label map: the same colours, none of them mixed.

    Args:
        frame: frame of the source.
        pixels: RGB uint8 HWC, or uint8 HW; of any size.
    """
    return _padded(frame, _content(frame, pixels, Image.Resampling.NEAREST), "edge")


def view_mask(frame: Frame, mask: Pixels) -> Weights:
    """Returns a mask as the model sees it: the share of each pixel that may change.

    Args:
        frame: frame of the source.
        mask: uint8 HW, 0 keeps and 255 may change, greys between; of any size.
    """
    content = _content(frame, mask, Image.Resampling.BOX)
    return _padded(frame, content, "constant").astype(np.float32) / 255.0


def paste(frame: Frame, source: Pixels, edited: Pixels, alpha: Pixels | None) -> Pixels:
    """Returns the source with the model's picture in its place.

    Args:
        frame: frame of the source.
        source: RGB uint8 HWC; it is not changed.
        edited: RGB uint8 HWC of the frame's size.
        alpha: uint8 HW of the source's size: 0 keeps the source's byte, 255 takes the edited one;
            None takes the edited picture in the whole box.
    """
    result = source.copy()
    box = frame.box if alpha is None else _shared_box(frame.box, bounding_box(alpha))
    # In strips, and only where alpha is: a source may have 10^8 pixels.
    for top in range(box.top, box.bottom, _STRIP_PX):
        strip = Box(box.left, top, box.right, min(top + _STRIP_PX, box.bottom))
        content = _at_source_size(frame, edited, strip)
        window = result[strip.top : strip.bottom, strip.left : strip.right]
        weights = (
            None if alpha is None else alpha[strip.top : strip.bottom, strip.left : strip.right]
        )
        window[...] = content if weights is None else _mixed(window, content, weights)
    return result


def _frame(source: Size, box: Box[int], size: Size) -> Frame:
    width_px, height_px = box.right - box.left, box.bottom - box.top
    scale = min(size.width_px / width_px, size.height_px / height_px)
    content = Size(max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    return Frame(source=source, box=box, size=size, content=content)


def _span(centre_px: int, wanted_px: int, length_px: int) -> tuple[int, int]:
    """Returns a stretch of at most `wanted_px` around a point, pushed inside 0 to `length_px`."""
    wanted_px = min(wanted_px, length_px)
    start = min(max(0, centre_px - wanted_px // 2), length_px - wanted_px)
    return start, start + wanted_px


def _shared_box(box: Box[int], other: Box[int] | None) -> Box[int]:
    """Returns the overlap of two boxes; empty where they do not overlap or `other` is None."""
    if other is None:
        return Box(box.left, box.top, box.left, box.top)
    return Box(
        max(box.left, other.left),
        max(box.top, other.top),
        min(box.right, other.right),
        min(box.bottom, other.bottom),
    )


def _at_source_size(frame: Frame, edited: Pixels, box: Box[int]) -> Pixels:
    """Resizes the part of the model's picture that shows a box of the source."""
    x, y = frame.padding
    content = edited[y : y + frame.content.height_px, x : x + frame.content.width_px]
    left, top, right, bottom = frame.box
    if content.shape[:2] == (bottom - top, right - left):
        return content[box.top - top : box.bottom - top, box.left - left : box.right - left]
    across = frame.content.width_px / (right - left)
    down = frame.content.height_px / (bottom - top)
    part = (
        (box.left - left) * across,
        (box.top - top) * down,
        (box.right - left) * across,
        (box.bottom - top) * down,
    )
    image = Image.fromarray(np.ascontiguousarray(content))
    size = (box.right - box.left, box.bottom - box.top)
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS, box=part), dtype=np.uint8)


def _content(frame: Frame, pixels: Pixels, resampling: Image.Resampling) -> Pixels:
    """Resizes the frame's box of a picture of any size to the frame's content."""
    height_px, width_px = pixels.shape[:2]
    left, right = (x * width_px / frame.source.width_px for x in frame.box[::2])
    top, bottom = (y * height_px / frame.source.height_px for y in frame.box[1::2])
    # Cut first: a filter would look at pixels outside the box.
    x, y = math.floor(left), math.floor(top)
    cut = pixels[y : math.ceil(bottom), x : math.ceil(right)]
    box = (left - x, top - y, right - x, bottom - y)
    if box == (0, 0, *frame.content):
        return cut
    image = Image.fromarray(np.ascontiguousarray(cut))
    return np.asarray(image.resize(frame.content, resampling, box, 3.0), dtype=np.uint8)


def _padded(frame: Frame, content: Pixels, mode: Literal["edge", "constant"]) -> Pixels:
    x, y = frame.padding
    right = frame.size.width_px - frame.content.width_px - x
    below = frame.size.height_px - frame.content.height_px - y
    widths: Sequence[tuple[int, int]] = [(y, below), (x, right)] + [(0, 0)] * (content.ndim - 2)
    return np.pad(content, widths, mode=mode)


def _mixed(source: Pixels, edited: Pixels, alpha: Pixels) -> Pixels:
    """Mixes two pictures: exactly the source's byte where alpha is 0, the edited one at 255."""
    weights = alpha[..., None].astype(np.uint32)
    mixed = source * (255 - weights) + edited * weights
    return ((mixed + 127) // 255).astype(np.uint8)
