"""Calibration of one score: figures over all labelled rows, by edit type and by kind of failure."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from overpaint.jobs.calibrate.statistics import (
    Bools,
    Floats,
    ReliabilityBin,
    SurvivalPoint,
    auc,
    auc_error,
    least_for_precision,
    reliability,
    spearman,
    survival,
)

PRECISIONS = (0.8, 0.9, 0.95)
"""Shares of good rows for which a threshold is looked for."""
OTHER_TYPE = "other"


class JudgedRow(NamedTuple):
    """Row with its score and its label.

    Attributes:
        score: score; None or NaN where there is none.
        is_good: label.
        grade: finer label, of which more is better; None where there is none.
        edit_type: type of the edit; empty where it is not known.
        failure: kind of failure of a bad row; empty where it is not known.
        orders_agree: agreement of both orders in which a pair was asked; None for no pair.
        status: end of the judge's question; empty where it is not known.
    """

    score: float | None
    is_good: bool
    grade: float | None = None
    edit_type: str = ""
    failure: str = ""
    orders_agree: bool | None = None
    status: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFigures:
    """Figures of some rows.

    Attributes:
        name: name of the group.
        num_rows: labelled rows.
        num_good: good rows among them.
        num_unjudged: rows without a score, which the figures leave out.
        auc: AUC of the score, good rows against bad ones; None without both.
        auc_error: standard error of the AUC.
        spearman: rank correlation of the score with the grade, or with the label.
        mean_good: mean score of the good rows.
        mean_bad: mean score of the bad rows.
    """

    name: str
    num_rows: int
    num_good: int
    num_unjudged: int
    auc: float | None
    auc_error: float | None
    spearman: float | None
    mean_good: float | None
    mean_bad: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Threshold with a reason to choose it.

    Attributes:
        reason: property of the threshold.
        point: outcome; None where no threshold has that property.
    """

    reason: str
    point: SurvivalPoint | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Calibration of one score.

    Attributes:
        column: name of the score.
        labels: origin of the labels, in words.
        correlated_with: `grade` or `label`: the other side of the rank correlation.
        overall: figures of all rows.
        by_type: figures by edit type.
        by_failure: figures of all good rows beside the bad rows of each kind.
        reliability: share of good rows by score.
        survival: outcome of each threshold.
        thresholds: thresholds to choose from.
        orders_agree: share of pairs whose two orders agree; None where none was asked so.
        statuses: number of rows by the end of the judge's question.
        scores_good: scores of good rows.
        scores_bad: scores of bad rows.
    """

    column: str
    labels: str
    correlated_with: str
    overall: GroupFigures
    by_type: list[GroupFigures]
    by_failure: list[GroupFigures]
    reliability: list[ReliabilityBin]
    survival: list[SurvivalPoint]
    thresholds: list[Threshold]
    orders_agree: float | None
    statuses: dict[str, int]
    scores_good: list[float]
    scores_bad: list[float]

    def as_json(self) -> dict[str, Any]:
        """Returns the figures as JSON values, without the scores of single rows."""
        figures = asdict(self)
        del figures["scores_good"], figures["scores_bad"]
        return figures


def calibrate(rows: Sequence[JudgedRow], *, column: str, labels: str) -> Calibration:
    """Compares the scores of rows with their labels.

    Args:
        rows: labelled rows, at least one.
        column: name of the score.
        labels: origin of the labels, in words.

    Example:
        >>> rows = [JudgedRow(9.0, True), JudgedRow(2.0, False)]
        >>> calibrate(rows, column="lmm_score", labels="by hand").overall.auc
        1.0
    """
    table = _Table(rows)
    scores, is_good = table.scores[table.is_judged], table.is_good[table.is_judged]
    points = survival(scores, is_good, len(rows), int(table.is_good.sum()))
    agree = [row.orders_agree for row in rows if row.orders_agree is not None]
    return Calibration(
        column=column,
        labels=labels,
        correlated_with="grade" if table.has_grades else "label",
        overall=table.figures("all", np.ones(len(rows), np.bool_)),
        by_type=table.by(lambda row: row.edit_type or OTHER_TYPE),
        by_failure=table.by_failure(),
        reliability=reliability(scores, is_good),
        survival=points,
        thresholds=_thresholds(points),
        orders_agree=sum(agree) / len(agree) if agree else None,
        statuses=dict(Counter(row.status for row in rows if row.status).most_common()),
        scores_good=scores[is_good].tolist(),
        scores_bad=scores[~is_good].tolist(),
    )


class _Table:
    """Columns of judged rows."""

    def __init__(self, rows: Sequence[JudgedRow]) -> None:
        self.rows = rows
        self.scores: Floats = np.array([_number(row.score) for row in rows])
        self.is_good: Bools = np.array([row.is_good for row in rows], np.bool_)
        self.is_judged: Bools = np.isfinite(self.scores)
        grades: Floats = np.array([_number(row.grade) for row in rows])
        self.has_grades = bool(np.isfinite(grades).any())
        self.grades: Floats = grades if self.has_grades else self.is_good.astype(np.float64)

    def by(self, name_of: Callable[[JudgedRow], str]) -> list[GroupFigures]:
        """Returns the figures of rows of each name; none where all have one name."""
        names = np.array([name_of(row) for row in self.rows])
        found = np.unique(names).tolist()
        return [self.figures(name, names == name) for name in found] if len(found) > 1 else []

    def by_failure(self) -> list[GroupFigures]:
        """Returns the figures of all good rows with the bad rows of each kind."""
        kinds = np.array(["" if row.is_good else row.failure for row in self.rows])
        found = [kind for kind in np.unique(kinds).tolist() if kind]
        return [self.figures(kind, self.is_good | (kinds == kind)) for kind in found]

    def figures(self, name: str, chosen: Bools) -> GroupFigures:
        """Returns the figures of some rows."""
        judged = chosen & self.is_judged
        scores, is_good = self.scores[judged], self.is_good[judged]
        area = auc(scores, is_good)
        num_good = int(is_good.sum())
        graded = judged & np.isfinite(self.grades)
        return GroupFigures(
            name=name,
            num_rows=int(chosen.sum()),
            num_good=int((chosen & self.is_good).sum()),
            num_unjudged=int((chosen & ~self.is_judged).sum()),
            auc=area,
            auc_error=None if area is None else auc_error(area, num_good, len(scores) - num_good),
            spearman=spearman(self.scores[graded], self.grades[graded]),
            mean_good=_mean(scores[is_good]),
            mean_bad=_mean(scores[~is_good]),
        )


def _thresholds(points: Sequence[SurvivalPoint]) -> list[Threshold]:
    best = max(points, key=lambda point: (point.f1, point.threshold), default=None)
    return [
        Threshold(reason="best F1 of precision and recall", point=best),
        *(
            Threshold(reason=f"precision of {goal:.0%} and more", point=found)
            for goal in PRECISIONS
            for found in (least_for_precision(points, goal),)
        ),
    ]


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
