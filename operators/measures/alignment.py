"""Alignment of an edit with its source: shift, scale, rotation, and drift of colour.

Everything is measured on the part that should not change. Editors that draw the whole picture anew
shift or zoom it, and each trainer of pairs learns that along.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from overpaint.operators.measures.coarse_registration import SCALES, scale_guesses, shift_guesses
from overpaint.operators.measures.pair import Kept, Pair
from overpaint.operators.measures.registration import Fit, Layer, Registration
from overpaint.operators.measures.similarity import Similarity
from overpaint.operators.measures.warping import Floats, inside, spline_coefficients, warp
from overpaint.pipeline.images import Pixels

_MOST_SIDE_PX = 768
"""Pictures with a longer side are measured reduced by a whole factor."""
_COARSE_PX = 96
_LEAST_PRECISION_PX = 0.06
"""Shifts that the picture fixes no better than this count as unmeasured."""
_LEAST_KEPT_PX = 64
_LEAST_SIDE_PX = 16
_MOST_CHANCE = 0.02
"""Scale or rotation that a shift alone may explain as well."""
_WHOLLY = 0.999
_NUM_TRIED = 2
_FINE_STEPS = 6
_LEAST_OVERLAP = 0.4
_SURE = 0.65
"""Agreement that makes a search from more guesses needless."""
_BETTER = 0.01
"""Gain of agreement for which a guess is left for a later one."""
_PART_BY_SHIFT, _PART_BY_SCALE = 0.02, 0.1
"""Part of what a simpler map leaves unexplained that a richer one must explain to be believed."""
_LEAST_GAIN = 1e-4
"""Gain of agreement that digits alone may make: that of about a hundredth of a pixel."""
_LEAST_PX, _SMALL_PX = 0.02, 0.5
"""Shifts between these are believed wherever they explain no less than none does."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """Place of an edit's content against that of its source.

    Attributes:
        dx_px: shift of the content at the picture's centre, to the right, pixels of the source.
        dy_px: shift downwards.
        scale: size of the content in the edit over that in the source; 1.02 is zoomed in by 2 %.
        rotation_deg: rotation of the edit, degrees, counter-clockwise.
        confidence: share of the structure (energy of gradients) of the part that should not change
            that lies within about a pixel of where these numbers put it, 0 to 1.
        map: the same as a map from pixels of the source to pixels of the edit.
    """

    dx_px: float
    dy_px: float
    scale: float
    rotation_deg: float
    confidence: float
    map: Similarity


def measure_alignment(pair: Pair) -> Alignment | None:
    """Measures the shift, scale and rotation of an edit against its source.

    Args:
        pair: source and edit; without a mask, a part of the edit may differ all the same.

    Returns:
        None where the part that should not change is too small, or shows too little to tell.
    """
    factor = _factor(pair)
    layer = _layer(pair, factor)
    if layer is None:
        return None
    fit = _best_fit(layer)
    if fit.precision_px > _LEAST_PRECISION_PX:
        return None
    found = fit.map.reduced(1 / factor)
    height, width = pair.source.shape[:2]
    dx_px, dy_px = found.shift_at((width - 1) / 2, (height - 1) / 2)
    return Alignment(dx_px, dy_px, found.scale, found.rotation_deg, fit.agreement, found)


def _best_fit(layer: Layer) -> Fit:
    factor = max(1, round(max(layer.source.shape) / _COARSE_PX))
    small = layer if factor == 1 else Layer(*(_reduced(plane, factor) for plane in layer))
    search = Registration(layer)
    free = search.fit(_coarse_fit(small).map.reduced(1 / factor), steps=_FINE_STEPS)
    still = search.rated(Similarity())
    best = free
    if abs(free.map.scale - 1) < _MOST_CHANCE and abs(free.map.b) < _MOST_CHANCE:
        height, width = layer.source.shape
        dx_px, dy_px = free.map.shift_at((width - 1) / 2, (height - 1) / 2)
        start = Similarity(u=dx_px, v=dy_px)
        shifted = search.fit(start, only_shift=True, steps=_FINE_STEPS)
        best = free if _explains_more(free, shifted, _PART_BY_SCALE) else shifted
        length_px = math.hypot(shifted.map.u, shifted.map.v)
        if best is shifted and _LEAST_PX <= length_px < _SMALL_PX:
            return shifted if shifted.agreement > still.agreement - _BETTER else still
    return best if _explains_more(best, still, _PART_BY_SHIFT) else still


def _explains_more(rich: Fit, simple: Fit, part: float) -> bool:
    """Tells whether a fit explains a part of what a simpler one leaves unexplained."""
    return rich.agreement - simple.agreement >= max(_LEAST_GAIN, part * (1 - simple.agreement))


def _coarse_fit(layer: Layer) -> Fit:
    """Returns the best fit of a small layer, from more and more guesses until one is sure."""
    search = Registration(layer, order=1)
    best = _better(search, search.rated(Similarity()), [Similarity()])
    for guesses in (
        lambda: shift_guesses(layer),
        lambda: shift_guesses(layer, scale_guesses(layer)),
        lambda: shift_guesses(layer, [(scale, 0.0) for scale in SCALES]),
    ):
        if best.agreement >= _SURE:
            break
        best = _better(search, best, guesses())
    return best


def _better(search: Registration, best: Fit, guesses: Iterable[Similarity]) -> Fit:
    """Returns the fit with the most agreement; the best so far gives way to a clear gain only."""
    rated = [fit for fit in map(search.rated, guesses) if fit.overlap >= _LEAST_OVERLAP]
    rated.sort(key=lambda fit: -fit.agreement)
    for start in rated[:_NUM_TRIED]:
        shifted = search.fit(start.map, only_shift=True)
        for fit in (shifted, search.fit(shifted.map)):
            if fit.overlap >= _LEAST_OVERLAP and fit.agreement > best.agreement + _BETTER:
                best = fit
    return best


def _factor(pair: Pair) -> int:
    """Returns the whole factor by which a pair is reduced before it is measured."""
    return -(-max(pair.source.shape[:2]) // _MOST_SIDE_PX)


def _layer(pair: Pair, factor: int) -> Layer | None:
    """Returns the pictures in one channel, reduced; None where too little should stay."""
    kept = pair.kept
    is_thin = min(kept.shape) < _LEAST_SIDE_PX * factor
    if is_thin or int(kept.sum()) < _LEAST_KEPT_PX * factor**2:
        return None
    planes = [_reduced_rgb(pixels, factor) for pixels in (pair.source, pair.edited)]
    weights = _contrast(planes[0], planes[1])
    source, edited = (np.ascontiguousarray(plane @ weights) for plane in planes)
    small = kept.astype(np.float32)
    return Layer(source, edited, small if factor == 1 else _reduced(small, factor))


def _contrast(source: Any, edited: Any) -> Any:
    """Returns the weights of red, green and blue under which edges are strongest.

    Brightness alone would not see a red shape on a green ground of equal brightness.
    """
    energy = np.zeros((3, 3))
    for plane in (source, edited):
        for axis in (0, 1):
            steps = np.diff(plane, axis=axis).reshape(-1, 3).astype(np.float64)
            energy += steps.T @ steps
    values, vectors = np.linalg.eigh(energy)
    strongest = vectors[:, int(values.argmax())]
    strongest = strongest if strongest.sum() >= 0 else -strongest
    return (strongest / np.abs(strongest).sum()).astype(np.float32)


def _reduced_rgb(pixels: Pixels, factor: int) -> Any:
    planes = [_reduced(pixels[..., channel], factor) for channel in range(3)]
    return np.stack(planes, axis=2) / np.float32(255)


def _reduced(plane: Any, factor: int) -> Floats:
    """Returns the means of squares of `factor` pixels; what does not fill a square is left out."""
    if factor == 1:
        return plane.astype(np.float32)
    height, width = (size // factor for size in plane.shape)
    whole = plane[: height * factor, : width * factor]
    squares = whole.reshape(height, factor, width, factor)
    return squares.mean(axis=(1, 3), dtype=np.float32)


def color_drift(pair: Pair, found: Alignment | None) -> float | None:
    """Measures the drift of colour on the part that should not change, in CIELAB.

    The drift is the length of the medians of the differences in L*, a* and b* (CIE 1976 delta E of
    the typical pixel) between the source and the edit, after alignment: 0 for none, about 2 where
    eyes begin to see it. Medians keep a local edit that no mask covers out of it.

    Args:
        pair: source and edit.
        found: alignment of the edit; None compares pixel with pixel.

    Returns:
        None where nothing should stay.
    """
    from skimage.color import rgb2lab

    factor = _factor(pair)
    kept = _reduced(pair.kept.astype(np.float32), factor) > _WHOLLY
    source, edited = (_reduced_rgb(pixels, factor) for pixels in (pair.source, pair.edited))
    if found is not None:
        small = found.map.reduced(factor)
        edited = np.stack([warp(edited[..., channel], small) for channel in range(3)], axis=2)
        kept &= inside(small, kept.shape)
    if not kept.any():
        return None
    before, after = (np.asarray(rgb2lab(pixels[kept][None]))[0] for pixels in (source, edited))
    return float(np.linalg.norm(np.median(after - before, axis=0)))


def aligned(pixels: Pixels, found: Similarity) -> tuple[Pixels, Kept]:
    """Returns an edit warped back onto its source by cubic splines, and the pixels that it covers.

    Args:
        pixels: RGB uint8 HWC of the edit.
        found: map from the source to the edit.

    Returns:
        RGB uint8 HWC; and bool HW, False where the edit has no pixel for the source's.
    """
    rgb = np.empty_like(pixels)
    for channel in range(3):
        coefficients = spline_coefficients(pixels[..., channel])
        warped = warp(coefficients, found, order=3)
        rgb[..., channel] = np.clip(warped + 0.5, 0, 255).astype(np.uint8)
    height, width = pixels.shape[:2]
    return rgb, inside(found, (height, width))
