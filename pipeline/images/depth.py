"""Grey values of more than 8 bits: the range that they are in, and 8 bits of it."""

import math
from typing import Any

import numpy as np
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images.picture import Loaded
from PIL import Image

_OVERSHOOT = 1.5
"""Times the top of its range that a resampled picture of floats may reach."""
_UNDERSHOOT = 0.25
"""Share of its range by which such a picture may fall below zero."""
_DARKEST = 1 / 32
"""Share of its range that the brightest float reaches at least."""


_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0


def black_is_zero(image: Image.Image) -> Image.Image:
    """Returns a decoded image with black as 0, where it is a TIFF of 16 bits with white as 0.

    Pillow turns the values of other depths, and not of this one.
    """
    tags: Any = getattr(image, "tag_v2", {})
    if not image.mode.startswith("I;16") or tags.get(_PHOTOMETRIC) != _WHITE_IS_ZERO:
        return image
    turned = Image.fromarray(65535 - np.asarray(image).astype(np.uint16))
    turned.info = image.info
    return turned


def is_deep(image: Image.Image) -> bool:
    """Tells whether an image has grey values of more than 8 bits, whole or floats."""
    return image.mode.startswith("I") or image.mode == "F"


def is_16_bit(loaded: Loaded) -> bool:
    """Tells whether grey values are known to go up to 65535."""
    # Pillow scales a PGM file of more than 8 bits to 16, which it keeps in 32.
    mode = loaded.image.mode
    return mode.startswith("I;16") or (mode == "I" and loaded.format == "PPM")


def to_8_bit(loaded: Loaded) -> Image.Image:
    """Scales deep grey values to 8 bits; Pillow's own convert would clip them.

    What has more than 16 bits names no range: 0 to 1, 255 or 65535, the least that holds it. What
    is no number is black.

    Raises:
        RowError: `image_range`: the values are in none of the ranges.
    """
    values = np.asarray(loaded.image).astype(np.float64)
    values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    top = 65535.0 if is_16_bit(loaded) else _top(values, is_float=loaded.image.mode == "F")
    return Image.fromarray(np.clip(values * (255.0 / top) + 0.5, 0, 255).astype(np.uint8))


def _top(values: np.ndarray[Any, np.dtype[np.float64]], *, is_float: bool) -> float:
    """Returns the top of the range that values are in."""
    least, brightest = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    over, under, darkest = (_OVERSHOOT, _UNDERSHOOT, _DARKEST) if is_float else (1.0, 0.0, 0.0)
    tops = (1.0, 255.0, 65535.0) if is_float else (255.0, 65535.0)
    top = next((top for top in tops if brightest <= over * top), math.inf)
    is_dark = top > 1.0 and brightest < darkest * top
    if top == math.inf or least < -under * top or is_dark:
        raise RowError(
            "image_range",
            f"its values go from {least:g} to {brightest:g}; 0 to 1, 255 or 65535 can be read",
        )
    return top
