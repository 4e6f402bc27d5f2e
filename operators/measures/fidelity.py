"""Fidelity of an edit to its source: SSIM of the whole, and PIE-Bench's figures of the background.

Work goes strip by strip, so that large pictures need little memory.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from overpaint.operators.measures.pair import Pair
from overpaint.operators.measures.preservation import MOST_PSNR_DB
from overpaint.pipeline.images import MAY_CHANGE, Pixels

_STRIP_PX = 256
_UNIFORM: dict[str, Any] = {"win_size": 7}
_GAUSSIAN: dict[str, Any] = {
    "gaussian_weights": True,
    "sigma": 1.5,
    "use_sample_covariance": False,
}
_MARGINS_PX = {"uniform": 3, "gaussian": 5}


class PieFidelity(NamedTuple):
    """Fidelity of the background as PIE-Bench measures it.

    Attributes:
        mse: mean squared difference, 0 to 1.
        psnr_db: peak signal-to-noise ratio, at most 100 dB.
        ssim: structural similarity, up to 1; None below 11 px.
    """

    mse: float
    psnr_db: float
    ssim: float | None


def structural_similarity(
    source: Pixels, edited: Pixels, *, gaussian: bool = False
) -> float | None:
    """Returns the SSIM of two pictures, the mean of the channels (Wang et al., 2004).

    Args:
        source: RGB uint8 HWC.
        edited: RGB uint8 HWC of the same size.
        gaussian: whether windows are Gaussian (11 px, sigma 1.5, as in the paper and torchmetrics)
            and not squares of 7 px (skimage's default, as in UltraEdit).

    Returns:
        -1 to 1; None where the pictures are smaller than a window.
    """
    from skimage.metrics import structural_similarity as of_strip

    margin_px = _MARGINS_PX["gaussian" if gaussian else "uniform"]
    height, width = source.shape[:2]
    if min(height, width) <= 2 * margin_px:
        return None
    total = 0.0
    for start in range(margin_px, height - margin_px, _STRIP_PX):
        stop = min(start + _STRIP_PX, height - margin_px)
        rows = slice(start - margin_px, stop + margin_px)
        before, after = (pixels[rows].astype(np.float64) / 255 for pixels in (source, edited))
        found: Any = of_strip(
            before,
            after,
            data_range=1.0,
            channel_axis=2,
            full=True,
            **(_GAUSSIAN if gaussian else _UNIFORM),
        )
        inner = slice(margin_px, -margin_px)
        total += float(found[1][inner, inner].mean(axis=2).sum())
    return total / ((height - 2 * margin_px) * (width - 2 * margin_px))


def pie_pair(pair: Pair) -> Pair | None:
    """Returns a pair as PIE-Bench sees its background: black where it may change.

    The pixels at the border of the picture count as ones that may change.

    Returns:
        None where there is no mask, or nothing outside it.
    """
    if pair.mask is None:
        return None
    kept = pair.mask < MAY_CHANGE
    kept[[0, -1]] = False
    kept[:, [0, -1]] = False
    if not kept.any():
        return None
    return Pair(pair.source * kept[..., None], pair.edited * kept[..., None], pair.mask)


def pie_fidelity(pair: Pair) -> PieFidelity | None:
    """Measures the background as PIE-Bench does (PnPInversion, arXiv 2310.01506).

    Both pictures are black inside the mask and are compared over the whole frame, so that the same
    difference counts less the larger the mask is; `score` has the figures over the background
    alone.

    Returns:
        None where there is no mask, or nothing outside it.
    """
    masked = pie_pair(pair)
    if masked is None:
        return None
    squares = 0
    for start in range(0, masked.source.shape[0], _STRIP_PX):
        rows = slice(start, start + _STRIP_PX)
        before, after = (pixels[rows].astype(np.int32) for pixels in masked[:2])
        squares += int(np.square(before - after).sum(dtype=np.int64))
    mse = squares / (255**2 * masked.source.size)
    least = 10 ** (-MOST_PSNR_DB / 10)
    psnr_db = MOST_PSNR_DB if mse <= least else -10 * math.log10(mse)
    ssim = structural_similarity(masked.source, masked.edited, gaussian=True)
    return PieFidelity(mse, psnr_db, ssim)
