"""First guesses of a registration, from spectra: where its search begins.

Shifts come from phase correlation (skimage's, and its masked form after Padfield, 2012), scale and
rotation from the phase correlation of log-polar magnitude spectra (Fourier-Mellin; Reddy and
Chatterji, 1996).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from overpaint.operators.measures.registration import Layer
from overpaint.operators.measures.similarity import Similarity, similarity_about
from overpaint.operators.measures.warping import Floats, warp

_MOST_SCALE = 1.5
_MOST_ROTATION_DEG = 30.0
_NUM_ANGLES, _NUM_RADII = 180, 128
_NUM_PEAKS = 3
_LEAST_OVERLAP = 0.3
SCALES = (0.8, 0.85, 0.9, 0.95, 1.05, 1.1, 1.15, 1.2, 1.25)
"""Scales that are tried where spectra tell none."""


def shift_guesses(
    layer: Layer, about: Sequence[tuple[float, float]] = ((1.0, 0.0),)
) -> Iterator[Similarity]:
    """Yields guesses of shifts, for each scale and rotation that is given.

    Args:
        layer: pictures to compare.
        about: pairs of scale and rotation in degrees.
    """
    height, width = layer.source.shape
    centre = ((width - 1) / 2, (height - 1) / 2)
    for scale, rotation_deg in about:
        turned = similarity_about(centre, (0.0, 0.0), scale, rotation_deg)
        edited = layer.edited if turned == Similarity() else warp(layer.edited, turned)
        for shift in _shifts(layer, edited):
            # A pixel shifted in the turned edit is shifted by as much, turned, in the edit.
            x, y = centre[0] + shift[0], centre[1] + shift[1]
            column, row = turned.at(x, y)
            moved = (column - centre[0], row - centre[1])
            yield similarity_about(centre, moved, scale, rotation_deg)


def _shifts(layer: Layer, edited: Floats) -> Iterator[tuple[float, float]]:
    from skimage.registration import phase_cross_correlation

    source, other = _flat(_filled(layer.source, layer.kept)), _flat(edited)
    if not source.any() or not other.any():
        return
    found: Any = phase_cross_correlation(source, other)[0]
    yield -float(found[1]), -float(found[0])
    kept = layer.kept > 0.5
    if edited is not layer.edited or kept.all() or kept.mean() < 0.05:
        return
    masked: Any = phase_cross_correlation(
        layer.source,
        edited,
        reference_mask=kept,
        moving_mask=np.ones_like(kept),
        overlap_ratio=_LEAST_OVERLAP,
    )[0]
    yield -float(masked[1]), -float(masked[0])


def scale_guesses(layer: Layer) -> list[tuple[float, float]]:
    """Returns guesses of scale and rotation in degrees, from log-polar spectra, the best first."""
    source = _log_polar(_flat(_filled(layer.source, layer.kept)))
    edited = _log_polar(_flat(layer.edited))
    product = np.fft.fft2(source) * np.conj(np.fft.fft2(edited))
    peaks = np.fft.ifft2(product / np.maximum(np.abs(product), 1e-6)).real
    step = _log_radius() / _NUM_RADII
    guesses: list[tuple[float, float]] = []
    for _ in range(8 * _NUM_PEAKS):
        place = np.unravel_index(int(peaks.argmax()), peaks.shape)
        angle = _signed(int(place[0]), _NUM_ANGLES) * 180 / _NUM_ANGLES
        scale = math.exp(_signed(int(place[1]), _NUM_RADII) * step)
        _erase(peaks, place)
        if abs(angle) <= _MOST_ROTATION_DEG and 1 / _MOST_SCALE <= scale <= _MOST_SCALE:
            guesses.append((scale, angle))
        if len(guesses) == _NUM_PEAKS:
            break
    return guesses


def _log_radius() -> float:
    return math.log(_NUM_RADII)


def _log_polar(picture: Floats) -> Floats:
    """Returns the magnitude spectrum of a picture by angle (half a turn) and log of radius."""
    from skimage.transform import warp_polar

    side = _NUM_RADII * 2
    spectrum = np.abs(np.fft.fftshift(np.fft.fft2(picture, (side, side)))).astype(np.float32)
    spectrum = np.log1p(spectrum)
    polar: Any = warp_polar(
        spectrum,
        radius=_NUM_RADII,
        output_shape=(2 * _NUM_ANGLES, _NUM_RADII),
        scaling="log",
        center=(side / 2, side / 2),
    )
    half = polar[:_NUM_ANGLES]
    # The lowest frequencies and the fall of all spectra say nothing of scale.
    return (half - half.mean(axis=0, keepdims=True)).astype(np.float32)


def _flat(picture: Floats) -> Floats:
    """Returns a picture about its mean, faded towards its borders (Hann)."""
    rows, columns = (np.hanning(size + 2)[1:-1].astype(np.float32) for size in picture.shape)
    return (picture - picture.mean()) * rows[:, None] * columns[None, :]


def _filled(picture: Floats, kept: Floats) -> Floats:
    """Returns a picture whose places that may change have the mean of the others."""
    total = float(kept.sum())
    mean = float((picture * kept).sum()) / total if total > 0 else 0.0
    return picture * kept + np.float32(mean) * (1 - kept)


def _signed(place: int, size: int) -> int:
    return place - size if place > size // 2 else place


def _erase(peaks: Any, place: Any) -> None:
    """Takes a peak and its neighbours out."""
    rows = [(int(place[0]) + step) % peaks.shape[0] for step in range(-3, 4)]
    columns = [(int(place[1]) + step) % peaks.shape[1] for step in range(-3, 4)]
    peaks[np.ix_(rows, columns)] = -np.inf
