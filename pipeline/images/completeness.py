"""Files that end with all that belongs at their end, but without their last pixels.

Readers fill what is missing and say nothing: PNG with zeros, JPEG with a middle grey. Where the
last pixels are such, and only there, the file itself is asked.
"""

import io
from typing import Any

import numpy as np
from overpaint.pipeline.images import png
from PIL import Image

_END_OF_IMAGE = b"\xff\xd9"
_MORE_PIXELS = bytes(range(1, 255)) * 64
"""Packed pixels that a reader takes where it lacks some, and passes over where it has all."""


def is_complete(image: Image.Image, data: bytes) -> bool:
    """Tells whether a decoded image has the pixels that its file states, as far as can be known.

    It can be known of PNG and of sequential JPEG.

    Args:
        image: decoded and not yet turned.
        data: the file.
    """
    if image.format == "PNG":
        is_doubtful = png.header(data).is_interlaced or _last_row_is_zero(image)
        return not is_doubtful or png.has_all_rows(data)
    if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
        return not _last_pixel_is_grey(image) or _takes_no_more(image, data)
    return True


def _last_row_is_zero(image: Image.Image) -> bool:
    row: Any = np.asarray(image.crop((0, image.height - 1, image.width, image.height)))
    return not row.any()


def _last_pixel_is_grey(image: Image.Image) -> bool:
    return image.getpixel((image.width - 1, image.height - 1)) in (128, (128, 128, 128))


def _takes_no_more(image: Image.Image, data: bytes) -> bool:
    """Tells whether a JPEG's pixels stay what they are with more packed pixels before its end."""
    end = data.rfind(_END_OF_IMAGE)
    longer = Image.open(io.BytesIO(data[:end] + _MORE_PIXELS + data[end:]), formats=("JPEG",))
    return np.array_equal(np.asarray(image), np.asarray(longer))
