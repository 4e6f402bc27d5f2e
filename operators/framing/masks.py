"""Masks of a source's size: thresholds, boxes, components, holes, dilation, feathering.

A mask is uint8 HW, 0 and 255, as it is stored and as it goes through a frame, or bool HW while it
is being found. 255 and True may change.
"""

from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from overpaint.pipeline.images import MAY_CHANGE, Pixels
from PIL import Image
from scipy import ndimage

Region = np.ndarray[Any, np.dtype[np.bool_]]
"""bool HW: True belongs to the region."""
Heat = np.ndarray[Any, np.dtype[np.float32]]
"""float32 HW, 0 to 1: probability that each pixel belongs to a region."""
MaskT = TypeVar("MaskT", Pixels, Region)
NumberT_co = TypeVar("NumberT_co", bound=float, covariant=True)

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=int)


class Box(NamedTuple, Generic[NumberT_co]):
    """A rectangle of pixels.

    Attributes:
        left: first column inside.
        top: first row inside.
        right: first column outside.
        bottom: first row outside.
    """

    left: NumberT_co
    top: NumberT_co
    right: NumberT_co
    bottom: NumberT_co


def binarise(mask: Pixels) -> Pixels:
    """Returns a mask as 0 and 255.

    Args:
        mask: uint8 HW; 128 and more may change.
    """
    return np.where(mask >= MAY_CHANGE, np.uint8(255), np.uint8(0))


def bounding_box(mask: Pixels | Region) -> Box[int] | None:
    """Returns the smallest box around what is not zero; None where all is zero.

    Example:
        >>> bounding_box(np.eye(4, k=2, dtype=bool))
        Box(left=2, top=0, right=4, bottom=2)
    """
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def dilate(mask: MaskT, radius_px: int) -> MaskT:
    """Returns a mask dilated by a square of side `2 * radius_px + 1`.

    Args:
        mask: uint8 HW 0 and 255, or bool HW; it is not changed.
        radius_px: width that is added all around; 0 adds none.
    """
    box = bounding_box(mask)
    if radius_px < 1 or box is None:
        return mask
    dilated = mask.copy()
    # As numbers: scipy's filter of one axis takes no truth values.
    window: Any = dilated.view(np.uint8)[_window(box, radius_px, mask.shape)]
    for axis in (0, 1):
        window[...] = ndimage.maximum_filter1d(window, 2 * radius_px + 1, axis, mode="nearest")
    return dilated


def feather(mask: Pixels, width_px: int) -> Pixels:
    """Returns alpha that rises from 0 at the mask's edge to 255 about `width_px` inside it.

    Args:
        mask: uint8 HW, 0 and 255; alpha is 0 wherever it is 0. There is no ramp where the mask
            meets the border of the picture.
        width_px: width of the ramp; 0 and 1 keep the hard edge. A thinner part stays half through.
    """
    radius_px = width_px // 2
    box = bounding_box(mask)
    if radius_px < 1 or box is None:
        return mask
    window = _window(box, 1, mask.shape)
    kernel_px = 2 * radius_px + 1
    # The blur reaches as far as the erosion went, so that nothing outside is touched.
    eroded = ndimage.minimum_filter(mask[window], kernel_px, mode="nearest")
    alpha = np.zeros_like(mask)
    alpha[window] = ndimage.uniform_filter(eroded, kernel_px, mode="nearest")
    _keep_thin_parts(alpha[window], mask[window])
    return alpha


def _keep_thin_parts(alpha: Pixels, mask: Pixels) -> None:
    """Lets parts of a mask that are thinner than the ramp half through: erosion took them away."""
    labelled: Any = ndimage.label(mask)
    labels, num_parts = labelled
    if num_parts == 0:
        return
    strongest = np.append(0, ndimage.maximum(alpha, labels, np.arange(1, num_parts + 1)))
    is_thin = strongest < MAY_CHANGE
    is_thin[0] = False
    alpha[is_thin[labels]] = MAY_CHANGE


def _window(box: Box[int], margin_px: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Returns a box with a margin: a source may have 10^8 pixels, of which few are masked."""
    return (
        slice(max(0, box.top - margin_px), min(shape[0], box.bottom + margin_px)),
        slice(max(0, box.left - margin_px), min(shape[1], box.right + margin_px)),
    )


def scaled(heat: Heat, width_px: int, height_px: int) -> Heat:
    """Returns a heat map at another size, bilinear."""
    if heat.shape == (height_px, width_px):
        return heat
    image = Image.fromarray(heat).resize((width_px, height_px), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32)


def largest_component(region: Region) -> Region:
    """Returns the component with the most pixels; pixels that touch at a corner are connected."""
    labelled: Any = ndimage.label(region, structure=_EIGHT_NEIGHBOURS)
    labels, num_components = labelled
    if num_components < 2:
        return region
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == int(sizes.argmax())


def fill_holes(region: Region) -> Region:
    """Returns a region with everything that it encloses."""
    labelled: Any = ndimage.label(~region)
    labels, num_components = labelled
    is_outside = np.zeros(num_components + 1, dtype=np.bool_)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        is_outside[edge] = True
    return region | ~is_outside[labels]


def area_share(region: Region) -> float:
    """Returns the share of the picture that a region covers, 0 to 1."""
    return float(np.count_nonzero(region) / region.size)
