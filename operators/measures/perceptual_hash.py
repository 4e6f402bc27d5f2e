"""Perceptual hashes: 64 bits that near-duplicates share."""

from typing import Any

import numpy as np
from PIL import Image
from scipy import fft

_SIDE_PX, _KEPT = 32, 8


def perceptual_hash(image: Image.Image) -> int:
    """Returns the perceptual hash of a picture, as `imagehash.phash` has it.

    The grey picture, squeezed to 32 x 32 px, goes through a cosine transform (type II); each bit
    tells whether one of the 8 x 8 lowest coefficients is above their median ("Looks Like It",
    N. Krawetz, 2011).

    Args:
        image: picture of any mode that becomes grey.

    Returns:
        64 bits, the first coefficient's the highest, as a signed number (-2**63 to 2**63 - 1).
    """
    square = image.convert("L").resize((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS)
    pixels = np.asarray(square, dtype=np.float64)
    coefficients: Any = fft.dct(fft.dct(pixels, axis=0), axis=1)
    lowest = coefficients[:_KEPT, :_KEPT]
    bits = (lowest > np.median(lowest)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big", signed=True)


def hamming_distance(one: int, other: int) -> int:
    """Returns the number of bits, of 64, in which two hashes differ."""
    return ((one ^ other) & (2**64 - 1)).bit_count()
