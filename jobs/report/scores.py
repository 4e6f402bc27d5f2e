"""Histograms of the scores: exact counts of every row, in bins that people can read.

Two looks at the manifest: the first finds each score's range and a spread of its values, the second
counts. Scores can have wild outliers (the gain of a failed edit), so the bins cover where nearly
all values lie, and the first and last bin hold what lies beyond.
"""

import math
import sys
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from overpaint.pipeline.policy import Bounds, Policy
from overpaint.pipeline.runs.manifest import ACCEPTED

Floats = np.ndarray[Any, np.dtype[np.float64]]
Counted = np.ndarray[Any, np.dtype[np.int64]]

_SPREAD_VALUES = 20_000
_MIN_BINS, _MAX_BINS = 10, 32
_LEAST_SPREAD = 1e-9
_TAIL = 0.05
_GREATEST = 1e100
"""What is larger counts as infinite: no axis could be drawn for it."""
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


class Bin(NamedTuple):
    """One bar: values from `low` to `high`, how many rows, and how many of them accepted."""

    low: float
    high: float
    num_rows: int
    num_accepted: int


@dataclass(slots=True)
class ScoreRange:
    """What the first look finds of one score."""

    num_values: int = 0
    num_null: int = 0
    num_infinite: int = 0
    least: float = math.inf
    greatest: float = -math.inf
    total: float = 0.0
    spread: list[Floats] = field(default_factory=list[Floats])

    def add(self, column: Any, num_parts: int) -> None:
        """Looks at one part; `num_parts` of them share the values kept."""
        values = _floats(column)
        finite = values[_is_drawable(values)]
        self.num_null += int(np.isnan(values).sum())
        self.num_infinite += int((np.abs(values) > _GREATEST).sum())
        self.num_values += len(finite)
        if len(finite):
            self.least = min(self.least, float(finite.min()))
            self.greatest = max(self.greatest, float(finite.max()))
            self.total += float(finite.sum())
            kept = max(1, _SPREAD_VALUES // num_parts)
            self.spread.append(finite[:: max(1, len(finite) // kept)].copy())

    @property
    def mean(self) -> float | None:
        """Of the finite values; None where there are none."""
        return self.total / self.num_values if self.num_values else None

    def quantile(self, share: float) -> float:
        """The value that a share of the values lies below, from those kept."""
        return float(np.quantile(np.concatenate(self.spread), share))


class Scores:
    """The first look: every score's range.

    Args:
        names: the scores.
        num_parts: of the manifest.
    """

    def __init__(self, names: list[str], num_parts: int) -> None:
        self.ranges = {name: ScoreRange() for name in names}
        self._num_parts = num_parts

    def look(self, _part: int, table: pa.Table) -> None:
        """Looks at one part."""
        for name, found in self.ranges.items():
            found.add(table[name], self._num_parts)


class Histograms:
    """The second look: rows in every bin.

    Args:
        ranges: what the first look found; scores without a value are left out.
        policy: its bounds are kept in view.
    """

    def __init__(self, ranges: dict[str, ScoreRange], policy: Policy) -> None:
        self._edges = {
            name: _edges(found, policy.root.get(name))
            for name, found in ranges.items()
            if found.num_values
        }
        zeros = {name: np.zeros(len(edges) - 1, np.int64) for name, edges in self._edges.items()}
        self._all: dict[str, Counted] = zeros
        self._accepted: dict[str, Counted] = {name: zero.copy() for name, zero in zeros.items()}

    def look(self, _part: int, table: pa.Table) -> None:
        """Counts one part."""
        is_accepted = np.asarray(table["status"].to_pylist()) == ACCEPTED
        for name, edges in self._edges.items():
            values = _floats(table[name])
            finite = _is_drawable(values)
            self._all[name] += _counted(values[finite], edges)
            self._accepted[name] += _counted(values[finite & is_accepted], edges)

    def bins(self, name: str) -> list[Bin]:
        """The bars of a score; none where it has no value."""
        if name not in self._edges:
            return []
        edges = self._edges[name].tolist()
        counts = zip(self._all[name].tolist(), self._accepted[name].tolist(), strict=True)
        return [
            Bin(low, high, *found)
            for low, high, found in zip(edges[:-1], edges[1:], counts, strict=True)
        ]


def ticks(low: float, high: float, num_ticks: int = 4) -> list[float]:
    """Round values from `low` to `high`, about `num_ticks` of them."""
    step = _round_up((high - low) / num_ticks)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _floats(column: Any) -> Floats:
    """A numeric column with NaN for null."""
    return column.cast(pa.float64()).to_numpy().astype(np.float64, copy=False)


def _is_drawable(values: Floats) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.abs(values) <= _GREATEST


def _counted(values: Floats, edges: Floats) -> Counted:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return counts.astype(np.int64)


def _edges(found: ScoreRange, bounds: Bounds | None) -> Floats:
    low, high = _shown_range(found)
    low, high = _with_bounds(low, high, bounds)
    if high - low <= max(_LEAST_SPREAD * max(abs(low), abs(high)), sys.float_info.min):
        # Differences in the last digits are no spread, and steps between them no numbers.
        margin = abs(low) * 0.05 or 0.5
        low, high = low - margin, high + margin
    step = _round_up((high - low) / _num_bins(found.num_values))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return np.arange(first, last + 1, dtype=np.float64) * step


def _num_bins(num_values: int) -> int:
    """Few bars for few values: most would hold one row or none."""
    return min(_MAX_BINS, max(_MIN_BINS, math.isqrt(4 * num_values)))


def _shown_range(found: ScoreRange) -> tuple[float, float]:
    """All values, or where nearly all lie if outliers would flatten the rest."""
    low, high = found.quantile(_TAIL), found.quantile(1 - _TAIL)
    width = high - low
    if width == 0 or found.greatest - found.least <= 4 * width:
        return found.least, found.greatest
    return max(found.least, low - width / 2), min(found.greatest, high + width / 2)


def _with_bounds(low: float, high: float, bounds: Bounds | None) -> tuple[float, float]:
    """The range widened to show the policy's bounds, unless they are far away."""
    width = high - low
    for bound in (bounds.min, bounds.max) if bounds else ():
        if bound is not None and low - width <= bound <= high + width:
            low, high = min(low, bound), max(high, bound)
    return low, high


def _round_up(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * nice for nice in _STEPS if power * nice >= step * (1 - 1e-9))
