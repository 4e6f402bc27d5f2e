"""What an edit changed and what it kept, from pixels.

Work goes strip by strip, so that a picture of 100 million pixels needs no more than a few hundred
megabytes. Sums are float64 over values of 0 to 1: uint8 is never subtracted.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from overpaint.pipeline.images import Pixels

MOST_PSNR_DB = 100.0
"""Stands for equal pixels, whose PSNR is infinite."""

_Floats = np.ndarray[Any, np.dtype[np.float64]]

_STRIP_PX = 256
_CHANGED = 8 / 255
_WINDOW_PX = 7
_MARGIN_PX = _WINDOW_PX // 2


@dataclass(frozen=True, slots=True)
class Change:
    """How much an edit changed, and where.

    Attributes:
        mean: of |edited - source| over pixels and channels, 0 to 1.
        share: of the pixels that differ by more than 8 of 255 in a channel.
        locality: of the change that lies inside the mask; null without a mask or a change.
        background_mse: mean squared difference outside the mask; null where nothing is outside.
        background_ssim: structural similarity outside the mask; null as above, and below 7 px.
    """

    mean: float
    share: float
    locality: float | None = None
    background_mse: float | None = None
    background_ssim: float | None = None

    @property
    def background_psnr_db(self) -> float | None:
        """Peak signal-to-noise ratio outside the mask, at most 100 dB."""
        if self.background_mse is None:
            return None
        if self.background_mse <= 10 ** (-MOST_PSNR_DB / 10):
            return MOST_PSNR_DB
        return -10 * math.log10(self.background_mse)


def measure(source: Pixels, edited: Pixels, mask: Pixels | None) -> Change:
    """Compares an edited image with its source.

    Args:
        source: RGB uint8 HWC.
        edited: RGB uint8 HWC of the same size.
        mask: uint8 HW, 255 = may change, values between count in part; null where there is none.
    """
    moved = changed = inside = squared = outside = 0.0
    for rows in _strips(source.shape[0]):
        difference = np.abs(_unit(edited[rows]) - _unit(source[rows]))
        moved += float(difference.sum())
        changed += float(np.count_nonzero(difference.max(axis=2) > _CHANGED))
        if mask is not None:
            weight = _unit(mask[rows])[..., None]
            inside += float((weight * difference).sum())
            squared += float(((1 - weight) * difference**2).sum())
            outside += float((1 - weight).sum())
    height, width, channels = source.shape
    mean, share = moved / (height * width * channels), changed / (height * width)
    if mask is None:
        return Change(mean, share)
    return Change(
        mean,
        share,
        inside / moved if moved else None,
        squared / (channels * outside) if outside else None,
        _background_ssim(source, edited, mask) if outside else None,
    )


def _background_ssim(source: Pixels, edited: Pixels, mask: Pixels) -> float | None:
    """Mean of the SSIM map over the background.

    Inside the mask the edited image is replaced by the source, so that a window at the border of
    the background does not see the edit.
    """
    from skimage.metrics import structural_similarity

    height = source.shape[0]
    if min(source.shape[:2]) < _WINDOW_PX:
        return None
    total = outside = 0.0
    for rows in _strips(height):
        # Rows beyond the strip, so that its windows see what they would see in the whole image.
        first = min(max(rows.start - _MARGIN_PX, 0), height - _WINDOW_PX)
        wide = slice(first, max(rows.stop + _MARGIN_PX, first + _WINDOW_PX))
        before, weight = _unit(source[wide]), _unit(mask[wide])
        after = weight[..., None] * before + (1 - weight[..., None]) * _unit(edited[wide])
        found: Any = structural_similarity(before, after, data_range=1.0, channel_axis=2, full=True)
        kept = slice(rows.start - first, rows.stop - first)
        background = 1 - weight[kept]
        total += float((found[1][kept].mean(axis=2) * background).sum())
        outside += float(background.sum())
    return total / outside


def _strips(height: int) -> Iterator[slice]:
    for start in range(0, height, _STRIP_PX):
        yield slice(start, min(start + _STRIP_PX, height))


def _unit(pixels: Pixels) -> _Floats:
    return pixels.astype(np.float64) / 255
