"""Histograms of the scores: exact counts of every row, in bins that people can read.

The first pass over the manifest finds each score's range and a spread of its values, the second
counts. Scores can have wild outliers (the gain of a failed edit), so the bins cover where nearly
all values are, and the first and last bin hold what is beyond.
"""

import math
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from overpaint.pipeline import columns as c
from overpaint.pipeline.policy import Bounds, Policy
from overpaint.pipeline.runs.manifest import ACCEPTED

Floats = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]

_FIXED = {column.name for column in c.MANIFEST}
_SPREAD_VALUES = 20_000
_MIN_BINS, _MAX_BINS = 10, 32
_LEAST_SPREAD = 1e-9
_TAIL = 0.05
_GREATEST = 1e100
"""Larger values count as infinite: no axis could be drawn for them."""
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def score_names(schema: pa.Schema) -> list[str]:
    """Lists the numeric columns that operators added to a manifest, in its order."""
    return [
        column.name
        for column in schema
        if column.name not in _FIXED
        and not column.name.startswith("in_")
        and (pa.types.is_floating(column.type) or pa.types.is_integer(column.type))
    ]


class Bin(NamedTuple):
    """One bar of a histogram.

    Attributes:
        low: least value of the bin.
        high: value at which the next bin starts.
        num_rows: rows with a value in the bin.
        num_accepted: accepted rows among them.
    """

    low: float
    high: float
    num_rows: int
    num_accepted: int


@dataclass(slots=True)
class ScoreRange:
    """The range of one score over the manifest parts that were added.

    Attributes:
        num_values: finite values.
        num_null: rows without a value, or with NaN.
        num_infinite: infinite values, and those that no axis could be drawn for.
        least: least finite value.
        greatest: greatest finite value.
        total: sum of the finite values.
        spread: some values of each part, for quantiles.
    """

    num_values: int = 0
    num_null: int = 0
    num_infinite: int = 0
    least: float = math.inf
    greatest: float = -math.inf
    total: float = 0.0
    spread: list[Floats] = field(default_factory=list[Floats])

    def add(self, column: Any, max_spread: int) -> None:
        """Takes one part of the column, and keeps about `max_spread` of its values."""
        values = _floats(column)
        finite = values[_is_drawable(values)]
        self.num_null += int(np.isnan(values).sum())
        self.num_infinite += int((np.abs(values) > _GREATEST).sum())
        self.num_values += len(finite)
        if len(finite):
            self.least = min(self.least, float(finite.min()))
            self.greatest = max(self.greatest, float(finite.max()))
            self.total += float(finite.sum())
            self.spread.append(finite[:: max(1, len(finite) // max_spread)].copy())

    @property
    def mean(self) -> float | None:
        """The mean of the finite values; None where there are none."""
        return self.total / self.num_values if self.num_values else None

    def quantile(self, share: float) -> float:
        """Estimates the value that a share of the values is below, from the spread."""
        return float(np.quantile(np.concatenate(self.spread), share))


class ScoreRanges:
    """The range of every score: what the first pass over a manifest finds.

    Args:
        num_parts: number of parts of the manifest, which share the values that are kept.

    Attributes:
        by_name: range of each score, in the manifest's order.
    """

    def __init__(self, num_parts: int) -> None:
        self.by_name: dict[str, ScoreRange] = {}
        self._max_spread = max(1, _SPREAD_VALUES // max(1, num_parts))

    def columns(self, part: int, schema: pa.Schema) -> Collection[str]:
        """Names the scores."""
        del part
        return score_names(schema)

    def add_part(self, part: int, table: pa.Table) -> None:
        """Takes the scores of one part."""
        del part
        for name in score_names(table.schema):
            score = self.by_name.setdefault(name, ScoreRange())
            score.add(table[name], self._max_spread)


class Histograms:
    """The rows in every bin of every score: what the second pass over a manifest counts.

    Args:
        ranges: range of each score; scores without a value have no bins.
        policy: bounds that the axes keep in view.
    """

    def __init__(self, ranges: dict[str, ScoreRange], policy: Policy) -> None:
        self._edges = {
            name: _edges(score, policy.bounds.get(name))
            for name, score in ranges.items()
            if score.num_values
        }
        zeros = {name: np.zeros(len(edges) - 1, np.int64) for name, edges in self._edges.items()}
        self._all: dict[str, Integers] = zeros
        self._accepted: dict[str, Integers] = {name: zero.copy() for name, zero in zeros.items()}

    def columns(self, part: int, schema: pa.Schema) -> Collection[str]:
        """Names the scores that have bins, and the status."""
        del part, schema
        return ["status", *self._edges]

    def add_part(self, part: int, table: pa.Table) -> None:
        """Counts the rows of one part."""
        del part
        is_accepted = np.asarray(table["status"].to_pylist()) == ACCEPTED
        for name, edges in self._edges.items():
            values = _floats(table[name])
            finite = _is_drawable(values)
            self._all[name] += _counted(values[finite], edges)
            self._accepted[name] += _counted(values[finite & is_accepted], edges)

    def bins(self, name: str) -> list[Bin]:
        """Returns the bins of a score; none where it has no value."""
        if name not in self._edges:
            return []
        edges = self._edges[name].tolist()
        counts = zip(self._all[name].tolist(), self._accepted[name].tolist(), strict=True)
        return [
            Bin(low, high, *numbers)
            for low, high, numbers in zip(edges[:-1], edges[1:], counts, strict=True)
        ]


def ticks(low: float, high: float, num_ticks: int = 4) -> list[float]:
    """Returns round values from `low` to `high`, about `num_ticks` of them."""
    step = _round_up((high - low) / num_ticks)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _floats(column: Any) -> Floats:
    """Returns a numeric column as floats, with NaN for null; the last digits of hashes may go."""
    return column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64, copy=False)


def _is_drawable(values: Floats) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.abs(values) <= _GREATEST


def _counted(values: Floats, edges: Floats) -> Integers:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return counts.astype(np.int64)


def _edges(score: ScoreRange, bounds: Bounds | None) -> Floats:
    low, high = _shown_range(score)
    low, high = _with_bounds(low, high, bounds)
    if high - low <= max(_LEAST_SPREAD * max(abs(low), abs(high)), sys.float_info.min):
        # Values that differ in the last digits only have no spread to divide into bins.
        margin = abs(low) * 0.05 or 0.5
        low, high = low - margin, high + margin
    step = _round_up((high - low) / _num_bins(score.num_values))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return np.arange(first, last + 1, dtype=np.float64) * step


def _num_bins(num_values: int) -> int:
    """Returns fewer bins for fewer values: most would hold one row or none."""
    return min(_MAX_BINS, max(_MIN_BINS, math.isqrt(4 * num_values)))


def _shown_range(score: ScoreRange) -> tuple[float, float]:
    """Returns the range of all values, or of nearly all if outliers would flatten the rest."""
    low, high = score.quantile(_TAIL), score.quantile(1 - _TAIL)
    width = high - low
    if width == 0 or score.greatest - score.least <= 4 * width:
        return score.least, score.greatest
    return max(score.least, low - width / 2), min(score.greatest, high + width / 2)


def _with_bounds(low: float, high: float, bounds: Bounds | None) -> tuple[float, float]:
    """Widens a range to show the policy's bounds, unless they are far away."""
    width = high - low
    for bound in (bounds.min, bounds.max) if bounds else ():
        if bound is not None and low - width <= bound <= high + width:
            low, high = min(low, bound), max(high, bound)
    return low, high


def _round_up(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * nice for nice in _STEPS if power * nice >= step * (1 - 1e-9))
