"""Change and preservation of an edit, measured from pixels.

Work goes strip by strip, so that a picture of 100 million pixels needs no more than a few hundred
megabytes, and a strip that the edit left alone is not measured. Sums are of whole numbers: exact.

The SSIM of a large picture (more than 24 million pixels) is that of both images reduced by a whole
factor, as its authors advise for large ones: its window of 7 px would see little but noise there.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from overpaint.pipeline.images import Pixels, shrink_factor
from PIL import Image

MOST_PSNR_DB = 100.0
"""Stands for equal pixels, whose PSNR is infinite."""

_Floats = np.ndarray[Any, np.dtype[np.float64]]

_STRIP_PX = 256
_CHANGED = 8
_WINDOW_PX = 7
_MARGIN_PX = _WINDOW_PX // 2


@dataclass(frozen=True, slots=True)
class Change:
    """Amount and place of the change that an edit made.

    Attributes:
        mean: mean of |edited - source| over pixels and channels, 0 to 1.
        share: share of the pixels that differ by more than 8 of 255 in a channel.
        locality: share of the change that is inside the mask; None without a mask or a change.
        background_mse: mean squared difference outside the mask; None where nothing is outside.
        background_ssim: structural similarity outside the mask; None as above, and below 7 px.
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
        mask: uint8 HW, 255 = may change, values between count in part; None where there is none.
    """
    moved = changed = inside = squared = outside = 0
    for rows in _strips(source.shape[0]):
        before, after = source[rows], edited[rows]
        kept = None if mask is None else 255 - mask[rows].astype(np.int32)
        outside += 0 if kept is None else int(kept.sum(dtype=np.int64))
        if np.array_equal(before, after):
            continue
        # Whole numbers of 1/255: exact, and faster than fractions. uint8 would wrap if subtracted.
        difference = np.maximum(before, after) - np.minimum(before, after)
        changed += int(np.count_nonzero(difference.max(axis=2) > _CHANGED))
        channels_of = [difference[..., index].astype(np.int32) for index in range(3)]
        by_pixel = channels_of[0] + channels_of[1] + channels_of[2]
        moved += int(by_pixel.sum(dtype=np.int64))
        if kept is not None:
            squares = sum(np.square(channel) for channel in channels_of)
            inside += int(((255 - kept) * by_pixel).sum(dtype=np.int64))
            squared += int((kept * squares).sum(dtype=np.int64))
    height, width, channels = source.shape
    mean, share = moved / (255 * height * width * channels), changed / (height * width)
    if mask is None:
        return Change(mean, share)
    return Change(
        mean,
        share,
        inside / (255 * moved) if moved else None,
        squared / (255**2 * channels * outside) if outside else None,
        _background_ssim(*_reduced(source, edited, mask)) if outside else None,
    )


def _reduced(source: Pixels, edited: Pixels, mask: Pixels) -> tuple[Pixels, Pixels, Pixels]:
    """Reduces large pictures and their mask by a whole factor; returns others as they are."""
    factor = shrink_factor(source.shape[1], source.shape[0])
    if factor == 1:
        return source, edited, mask
    return _shrunk(source, factor), _shrunk(edited, factor), _shrunk(mask, factor)


def _shrunk(pixels: Pixels, factor: int) -> Pixels:
    """Returns means of squares of `factor` pixels, strip by strip."""
    strips = [
        np.asarray(Image.fromarray(pixels[start : start + _STRIP_PX * factor]).reduce(factor))
        for start in range(0, pixels.shape[0], _STRIP_PX * factor)
    ]
    return np.concatenate(strips)


def _background_ssim(source: Pixels, edited: Pixels, mask: Pixels) -> float | None:
    """Returns the mean of the SSIM map over the background.

    Inside the mask the edited image is replaced by the source, so that a window at the border of
    the background does not see the edit.
    """
    height = source.shape[0]
    if min(source.shape[:2]) < _WINDOW_PX:
        return None
    total = outside = 0.0
    for rows in _strips(height):
        # Rows beyond the strip, so that its windows see what they would see in the whole image.
        first = min(max(rows.start - _MARGIN_PX, 0), height - _WINDOW_PX)
        wide = slice(first, max(rows.stop + _MARGIN_PX, first + _WINDOW_PX))
        background = 1 - _unit(mask[rows])
        outside += float(background.sum())
        ssim = _ssim_map(source[wide], edited[wide], mask[wide])
        if ssim is None:
            total += float(background.sum())
        else:
            total += float((ssim[rows.start - first : rows.stop - first] * background).sum())
    return total / outside


def _ssim_map(source: Pixels, edited: Pixels, mask: Pixels) -> _Floats | None:
    """Returns the SSIM of each pixel, mean of the channels; None for an untouched background."""
    if not ((source != edited).any(axis=2) & (mask < 255)).any():
        return None
    from skimage.metrics import structural_similarity

    weight, before = _unit(mask)[..., None], _unit(source)
    after = weight * before + (1 - weight) * _unit(edited)
    result: Any = structural_similarity(before, after, data_range=1.0, channel_axis=2, full=True)
    return result[1].mean(axis=2)


def _strips(height: int) -> Iterator[slice]:
    for start in range(0, height, _STRIP_PX):
        yield slice(start, min(start + _STRIP_PX, height))


def _unit(pixels: Pixels) -> _Floats:
    return pixels.astype(np.float64) / 255
