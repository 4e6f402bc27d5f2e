"""Masks in pixels: grown, and feathered so that nothing outside changes."""

from typing import Any

import numpy as np
from overpaint.operators.framing.frame import Box, bounding_box
from overpaint.pipeline.images import Pixels
from scipy import ndimage

_MAY_CHANGE = 128


def grow(mask: Pixels, radius_px: int) -> Pixels:
    """A mask as 0 and 255, grown by a square of that radius.

    Args:
        mask: uint8 HW; 128 and more may change.
        radius_px: 0 leaves it as it is.
    """
    marked = np.where(mask >= _MAY_CHANGE, np.uint8(255), np.uint8(0))
    bounds = bounding_box(marked)
    if radius_px < 1 or bounds is None:
        return marked
    window = _window(bounds, radius_px, marked.shape)
    marked[window] = ndimage.maximum_filter(marked[window], 2 * radius_px + 1, mode="nearest")
    return marked


def feather(mask: Pixels, width_px: int) -> Pixels:
    """Alpha that rises from 0 at the mask's edge to 255 about `width_px` inside it.

    Args:
        mask: uint8 HW, 0 and 255; alpha is 0 wherever it is 0. There is no ramp where the mask
            meets the border of the picture.
        width_px: of the ramp; 0 and 1 keep the hard edge. A thinner part stays half through.
    """
    radius_px = width_px // 2
    bounds = bounding_box(mask)
    if radius_px < 1 or bounds is None:
        return mask
    window = _window(bounds, 1, mask.shape)
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
    parts, number = labelled
    if number == 0:
        return
    strongest = np.append(0, ndimage.maximum(alpha, parts, np.arange(1, number + 1)))
    is_thin = strongest < _MAY_CHANGE
    is_thin[0] = False
    alpha[is_thin[parts]] = _MAY_CHANGE


def _window(bounds: Box, margin_px: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The masked box with a margin: a source may have 10^8 pixels, of which few are masked."""
    left, top, right, bottom = bounds
    return (
        slice(max(0, top - margin_px), min(shape[0], bottom + margin_px)),
        slice(max(0, left - margin_px), min(shape[1], right + margin_px)),
    )
