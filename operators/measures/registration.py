"""Registration: the similarity that a picture has undergone, by Gauss-Newton on its pixels.

The edited picture is warped back onto its source (Lucas and Kanade; brightness and contrast are
fitted beside the map, as in ECC) and compared where the source should not have changed. A place
whose residual is larger than its gradients explain by a small displacement counts little, so that a
local edit that no mask covers does not pull the map (Geman and McClure's weights on residuals in
pixels).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from overpaint.operators.measures.similarity import Similarity
from overpaint.operators.measures.warping import Floats, inside, spline_coefficients, warp
from scipy import ndimage

_NOISE = 2 / 255
"""Standard deviation that residuals are given at least: what 8 bits and codecs leave."""
_WINDOW_PX = 5
"""Side of the window in which residuals and gradients are compared."""
_LEAST_SPREAD_PX, _MOST_SPREAD_PX = 0.25, 3.0
_MOST_SAMPLES = 4096
_SETTLED_PX = 0.004


class Layer(NamedTuple):
    """A source and its edit at one resolution.

    Attributes:
        source: brightness of the source, 0 to 1.
        edited: brightness of the edit, 0 to 1.
        kept: weight of each pixel of the source, 0 to 1; 0 where it may change.
    """

    source: Floats
    edited: Floats
    kept: Floats


@dataclass(frozen=True, slots=True)
class Fit:
    """Map between a source and its edit, and how well it explains the edit.

    Attributes:
        map: similarity from the source to the edit.
        agreement: share of the structure (energy of gradients) that lies within about a pixel of
            where the map puts it, 0 to 1.
        precision_px: standard deviation of the shift in the direction in which it is least certain,
            by the residuals; infinite where nothing fixes it.
        overlap: share of the kept pixels that the map leaves inside the edit, 0 to 1.
    """

    map: Similarity
    agreement: float
    precision_px: float
    overlap: float


class _Compared(NamedTuple):
    """An edit warped onto its source.

    Attributes:
        warped: brightness of the edit at the pixels of the source.
        down: its gradient along rows' numbers.
        across: its gradient along columns' numbers.
        weight: weight of each pixel, 0 where the map leads outside.
    """

    warped: Floats
    down: Floats
    across: Floats
    weight: Floats


class Registration:
    """Search for the map of one layer.

    Args:
        layer: pictures to compare.
        order: degree of the splines that interpolate the edit, 1 or 3.
    """

    def __init__(self, layer: Layer, order: int = 3) -> None:
        self._layer = layer
        self._order = order
        height, width = layer.source.shape
        self._centre = ((width - 1) / 2, (height - 1) / 2)
        columns = np.arange(width, dtype=np.float32) - np.float32(self._centre[0])
        rows = np.arange(height, dtype=np.float32) - np.float32(self._centre[1])
        self._x, self._y = columns[None, :], rows[:, None]
        self._coefficients = spline_coefficients(layer.edited) if order == 3 else layer.edited
        down, across = np.gradient(layer.source)
        self._source_energy = _mean(down**2 + across**2)

    def fit(self, start: Similarity, *, only_shift: bool = False, steps: int = 12) -> Fit:
        """Returns the map near a first guess that explains the edit best.

        Args:
            start: first guess.
            only_shift: whether scale and rotation stay those of the guess.
            steps: most steps.
        """
        found, trust = start, None
        for _ in range(steps):
            step = self._step(found, trust, only_shift)
            if step is None:
                break
            found, trust, length_px = step
            if length_px < _SETTLED_PX:
                break
        return self.rated(found)

    def rated(self, found: Similarity) -> Fit:
        """Returns a map with how well it explains the edit."""
        compared = self._compare(found)
        gain, offset = self._light(compared, compared.weight)
        residual = self._layer.source - gain * compared.warped - offset
        energy = _mean(compared.down**2 + compared.across**2)
        both = (energy * gain**2 + self._source_energy) / 2
        apart = _mean(residual**2 * compared.weight) / (both + _NOISE**2)
        structure = compared.weight * both
        total = float(structure.sum())
        agreement = float((structure / (1 + apart)).sum()) / total if total > 0 else 0.0
        weight = compared.weight / (1 + apart) ** 2
        kept = float(self._layer.kept.sum())
        overlap = float(compared.weight.sum()) / kept if kept > 0 else 0.0
        return Fit(found, agreement, _precision_px(compared, residual, weight, gain), overlap)

    def _step(
        self, found: Similarity, trust: Floats | None, only_shift: bool
    ) -> tuple[Similarity, Floats, float] | None:
        """Returns the next map, the trust in each pixel, and by how many pixels the map differs.

        Args:
            found: map so far.
            trust: trust in each pixel of the step before; None in the first one.
            only_shift: whether scale and rotation stay as they are.

        Returns:
            None where nothing fixes the map.
        """
        compared = self._compare(found)
        before = compared.weight if trust is None else compared.weight * trust
        gain, offset = self._light(compared, before)
        residual = self._layer.source - gain * compared.warped - offset
        trust = _trust(residual, compared, gain)
        columns = self._derivatives(compared, found, gain, only_shift)
        change = _solve(columns, residual, compared.weight * trust)
        if change is None:
            return None
        moved, length_px = self._moved(found, change)
        return moved, trust, length_px

    def _moved(self, found: Similarity, change: Any) -> tuple[Similarity, float]:
        """Returns a map after a step about the centre, and the longest way of any pixel."""
        x, y = self._centre
        more = [float(value) for value in change] + [0.0, 0.0]
        shift_x, shift_y, scale, turn = more[:4]
        longest_px = float(np.hypot(shift_x, shift_y)) + float(np.hypot(scale, turn)) * max(x, y, 1)
        a, b = found.a + scale, found.b + turn
        column, row = found.at(x, y)
        u, v = column + shift_x - a * x + b * y, row + shift_y - b * x - a * y
        return Similarity(a, b, u, v), longest_px

    def _derivatives(
        self, compared: _Compared, found: Similarity, gain: float, only_shift: bool
    ) -> list[Floats]:
        """Returns the derivatives of the warped edit by shift, scale and turn, then by light."""
        a, b = found.a, found.b
        factor = gain / (a * a + b * b)
        across = (a * compared.across - b * compared.down) * np.float32(factor)
        down = (b * compared.across + a * compared.down) * np.float32(factor)
        moves = [across, down]
        if not only_shift:
            moves += [across * self._x + down * self._y, down * self._x - across * self._y]
        return [*moves, compared.warped, np.ones_like(compared.warped)]

    def _compare(self, found: Similarity) -> _Compared:
        warped = warp(self._coefficients, found, order=self._order)
        down, across = np.gradient(warped)
        return _Compared(warped, down, across, self._layer.kept * inside(found, warped.shape))

    def _light(self, compared: _Compared, weight: Floats) -> tuple[float, float]:
        """Returns the gain and offset that bring the warped edit nearest to the source."""
        total = float(weight.sum())
        if total <= 0:
            return 1.0, 0.0
        mean = float((weight * compared.warped).sum()) / total
        target = float((weight * self._layer.source).sum()) / total
        centred = compared.warped - mean
        spread = float((weight * centred**2).sum())
        product = float((weight * centred * (self._layer.source - target)).sum())
        # A gain far from 1 is no drift of light but another picture.
        gain = min(max((product + total * _NOISE**2) / (spread + total * _NOISE**2), 0.5), 2.0)
        return gain, target - gain * mean


def _trust(residual: Floats, compared: _Compared, gain: float) -> Floats:
    """Returns the weight of each pixel by its residual, 0 to 1."""
    energy = _mean(compared.down**2 + compared.across**2) * gain**2
    apart = np.sqrt(_mean(residual**2 * compared.weight) / (energy + _NOISE**2))
    spread = 1.5 * _weighted_median(apart, compared.weight * energy)
    spread = min(max(spread, _LEAST_SPREAD_PX), _MOST_SPREAD_PX)
    return (1 / (1 + (apart / spread) ** 2)) ** 2


def _solve(columns: list[Floats], residual: Floats, weight: Floats) -> Any:
    """Returns the weighted least squares of a residual by columns, but for the two of light."""
    stacked = np.stack([column.ravel() for column in columns]).astype(np.float64)
    weighted = stacked * weight.ravel()
    normal = weighted @ stacked.T
    right = weighted @ residual.ravel().astype(np.float64)
    scale = np.sqrt(np.maximum(np.diag(normal), 1e-12))
    scaled = normal / np.outer(scale, scale) + 1e-6 * np.eye(len(scale))
    if scale[:2].min() < _NOISE:
        return None
    return (np.linalg.solve(scaled, right / scale) / scale)[:-2]


def _precision_px(compared: _Compared, residual: Floats, weight: Floats, gain: float) -> float:
    across, down = compared.across * gain, compared.down * gain
    normal = np.array(
        [
            [float((weight * across**2).sum()), float((weight * across * down).sum())],
            [float((weight * across * down).sum()), float((weight * down**2).sum())],
        ]
    )
    total = float(weight.sum())
    variance = _NOISE**2
    if total > 0:
        variance = max(variance, float((weight * residual**2).sum()) / total)
    least = float(np.linalg.eigvalsh(normal)[0])
    return float(np.sqrt(variance / least)) if least > 1e-12 else float("inf")


def _mean(values: Floats) -> Floats:
    """Returns the mean of each pixel's window."""
    means: Any = ndimage.uniform_filter(values, _WINDOW_PX, mode="constant", output=np.float32)
    # Its running sums leave the last digits of large values behind where all is 0.
    return np.maximum(means, 0)


def _weighted_median(values: Floats, weights: Floats) -> float:
    """Returns the value below which half of the weight lies, of an even sample of pixels."""
    stride = max(1, values.size // _MOST_SAMPLES)
    sample, shares = values.ravel()[::stride], weights.ravel()[::stride]
    order = np.argsort(sample, kind="stable")
    summed = np.cumsum(shares[order])
    if summed[-1] <= 0:
        return _MOST_SPREAD_PX
    return float(sample[order][np.searchsorted(summed, summed[-1] / 2)])
