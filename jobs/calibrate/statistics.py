"""Statistics of a score beside labels: AUC, rank correlation, reliability, survival.

Ties count half, as everywhere: a judge that gives few different scores has many.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_Z95 = 1.959963984540054
_MAX_POINTS = 200


def auc(scores: Floats, is_good: Bools) -> float | None:
    """Returns the area under the ROC curve: the chance that a good row scores above a bad one.

    Args:
        scores: finite scores.
        is_good: labels.

    Returns:
        0 to 1, 0.5 for a score that tells nothing; None without rows of both labels.

    Example:
        >>> auc(np.array([1.0, 2.0, 2.0]), np.array([False, False, True]))
        0.75
    """
    num_good = int(is_good.sum())
    num_bad = len(scores) - num_good
    if not num_good or not num_bad:
        return None
    ranks = ranks_of(scores)
    above = float(ranks[is_good].sum()) - num_good * (num_good + 1) / 2
    return above / (num_good * num_bad)


def ranks_of(values: Floats) -> Floats:
    """Returns the rank of each value, from 1; equal values have the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[places]


def auc_error(area: float, num_good: int, num_bad: int) -> float:
    """Returns the standard error of an AUC (Hanley and McNeil, Radiology 143, 1982)."""
    first = area / (2 - area)
    second = 2 * area**2 / (1 + area)
    spread = (
        area * (1 - area) + (num_good - 1) * (first - area**2) + (num_bad - 1) * (second - area**2)
    )
    return math.sqrt(max(0.0, spread) / (num_good * num_bad))


def spearman(first: Floats, second: Floats) -> float | None:
    """Returns Spearman's rank correlation, -1 to 1; None where one of them has no spread."""
    if len(first) < 2:
        return None
    one, other = ranks_of(first), ranks_of(second)
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Rows whose scores are alike.

    Attributes:
        least: least score.
        greatest: greatest score.
        mean: mean score.
        num_rows: number of rows.
        num_good: number of good rows among them.
        share: share of good rows.
        low: lower end of the share's 95 % interval (Wilson).
        high: upper end.
    """

    least: float
    greatest: float
    mean: float
    num_rows: int
    num_good: int
    share: float
    low: float
    high: float


def reliability(scores: Floats, is_good: Bools, num_bins: int = 10) -> list[ReliabilityBin]:
    """Returns bins of about equally many rows, in the order of their scores.

    Equal scores share a bin; where there are few different scores, each has one.
    """
    values = np.unique(scores)
    if len(values) > num_bins:
        quantiles = np.quantile(scores, np.linspace(0, 1, num_bins + 1), method="lower")
        values = np.unique(quantiles)[:-1]
    places = np.searchsorted(values, scores, side="right") - 1
    return [_bin(scores[places == k], is_good[places == k]) for k in np.unique(places).tolist()]


def _bin(scores: Floats, is_good: Bools) -> ReliabilityBin:
    num_rows, num_good = len(scores), int(is_good.sum())
    low, high = wilson(num_good, num_rows)
    return ReliabilityBin(
        least=float(scores.min()),
        greatest=float(scores.max()),
        mean=float(scores.mean()),
        num_rows=num_rows,
        num_good=num_good,
        share=num_good / num_rows,
        low=low,
        high=high,
    )


def wilson(num_good: int, num_rows: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval of a share."""
    share, z2 = num_good / num_rows, _Z95**2
    middle = (share + z2 / (2 * num_rows)) / (1 + z2 / num_rows)
    half = math.sqrt(share * (1 - share) / num_rows + z2 / (4 * num_rows**2))
    half *= _Z95 / (1 + z2 / num_rows)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivalPoint:
    """Outcome of a threshold: rows with at least that score are kept.

    Attributes:
        threshold: least score that is kept.
        kept: share of all labelled rows that is kept, those without a score included.
        precision: share of good rows among those that are kept.
        recall: share of the good rows that is kept.
    """

    threshold: float
    kept: float
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def survival(scores: Floats, is_good: Bools, num_rows: int, num_good: int) -> list[SurvivalPoint]:
    """Returns what each threshold keeps, from the least score to the greatest.

    Args:
        scores: finite scores.
        is_good: labels of the rows with these scores.
        num_rows: number of all labelled rows.
        num_good: number of all good rows.
    """
    thresholds = np.unique(scores)
    if len(thresholds) > _MAX_POINTS:
        places = np.linspace(0, len(thresholds) - 1, _MAX_POINTS).round().astype(np.int64)
        thresholds = thresholds[places]
    ordered, ordered_good = np.sort(scores), np.sort(scores[is_good])
    kept = len(ordered) - np.searchsorted(ordered, thresholds)
    kept_good = len(ordered_good) - np.searchsorted(ordered_good, thresholds)
    return [
        SurvivalPoint(
            threshold=float(threshold),
            kept=int(num_kept) / num_rows,
            precision=int(good) / int(num_kept),
            recall=int(good) / num_good if num_good else 0.0,
        )
        for threshold, num_kept, good in zip(thresholds, kept, kept_good, strict=True)
    ]


LEAST_KEPT = 0.02
"""Least share of the rows that a threshold must keep: the precision of a few rows says little."""


def least_for_precision(points: Sequence[SurvivalPoint], precision: float) -> SurvivalPoint | None:
    """Returns the least threshold from which each has at least that precision.

    Thresholds that keep less than `LEAST_KEPT` do not count.
    """
    best = None
    for point in reversed(points):
        if point.kept < LEAST_KEPT:
            continue
        if point.precision < precision:
            break
        best = point
    return best
