"""Fit of the model of `combine` to labelled rows: ridge logistic regression by Newton's method.

What it gains is measured on sources that the fit has not seen: each fifth of the sources is judged
by a model of the other four.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from overpaint.jobs.calibrate.statistics import auc
from overpaint.operators.combine import Combine, offset_names
from overpaint.pipeline.errors import UsageError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FOLDS = 5
_RIDGE = 1.0
_MAX_STEPS = 50
_TOLERANCE = 1e-9


class LabelledRow(NamedTuple):
    """Row with a label.

    Attributes:
        scores: scores by column; null where there are none.
        is_good: whether the edit is right.
        method: editor.
        edit_type: type of the edit.
        source: word for the source: its rows are never split between fit and check.
        request: word for what was asked of it: tries at it compete.
    """

    scores: Mapping[str, float | None]
    is_good: bool
    method: str
    edit_type: str
    source: str
    request: str


class Comparison(NamedTuple):
    """Outcome of choosing the best try at each edit by one figure, on unseen sources.

    Attributes:
        rank: score, or `fitted`.
        auc: chance that a right edit has more of it than a wrong one; None without both.
        chosen: share of the requests whose try with most of it is right.
    """

    rank: str
    auc: float | None
    chosen: float


class Fitted(NamedTuple):
    """Model of `combine`, with what it gains.

    Attributes:
        operator: the model, fitted to all rows.
        comparisons: the fitted rank, and each score alone.
        num_rows: labelled rows.
        num_requests: edits that were asked for.
        reachable: share of the requests of which any try is right.
    """

    operator: Combine
    comparisons: tuple[Comparison, ...]
    num_rows: int
    num_requests: int
    reachable: float


def fit(rows: Sequence[LabelledRow], columns: Sequence[str]) -> Fitted:
    """Fits the model to labelled rows.

    Args:
        rows: labelled rows.
        columns: scores that count.

    Raises:
        UsageError: the rows are all right or all wrong, or of fewer sources than folds.
    """
    is_good = np.array([row.is_good for row in rows], np.bool_)
    folds = _folds(rows)
    if is_good.all() or not is_good.any():
        raise UsageError(f"all of the {len(rows)} labelled rows have one label: nothing to fit")
    if len(np.unique(folds)) < FOLDS:
        raise UsageError(f"the labelled rows are of too few sources for {FOLDS} folds")
    unseen = np.empty(len(rows))
    for fold in range(FOLDS):
        own = folds == fold
        model = _fitted([r for r, is_own in zip(rows, own, strict=True) if not is_own], columns)
        unseen[own] = _probabilities(
            model, [r for r, is_own in zip(rows, own, strict=True) if is_own]
        )
    ranks = {"fitted": unseen} | {name: _values(rows, name) for name in columns}
    requests = _requests(rows)
    comparisons = tuple(
        Comparison(name, _auc(values, is_good), _chosen(values, is_good, requests))
        for name, values in ranks.items()
    )
    reachable = float(np.mean([is_good[places].any() for places in requests]))
    return Fitted(_fitted(rows, columns), comparisons, len(rows), len(requests), reachable)


def _fitted(rows: Sequence[LabelledRow], columns: Sequence[str]) -> Combine:
    """Returns the model that fits some rows best."""
    values = np.stack([_values(rows, name) for name in columns], axis=1)
    known = np.isfinite(values)
    counts = np.maximum(known.sum(axis=0), 1)
    means = np.where(known, values, 0).sum(axis=0) / counts
    centred = np.where(known, values - means, 0.0)
    spread = np.sqrt((centred**2).sum(axis=0) / counts)
    spread[spread == 0] = 1.0
    names = [offset_names(row.method, row.edit_type) for row in rows]
    places = {name: place for place, name in enumerate(sorted({n for own in names for n in own}))}
    is_of = np.zeros((len(rows), len(places)))
    for row, own in enumerate(names):
        is_of[row, [places[name] for name in own]] = 1.0
    labels = np.array([row.is_good for row in rows], np.float64)
    found = _regression(np.hstack([centred / spread, is_of]), labels)
    weights, offsets = found[1 : 1 + len(columns)] / spread, found[1 + len(columns) :]
    return Combine(
        intercept=_short(found[0]),
        weights=dict(zip(columns, map(_short, weights), strict=True)),
        means=dict(zip(columns, map(_short, means), strict=True)),
        offsets={name: _short(offsets[place]) for name, place in places.items()},
    )


def _regression(features: Floats, labels: Floats) -> Floats:
    """Returns the intercept and the coefficients of a logistic model; the intercept is free."""
    design = np.hstack([np.ones((len(labels), 1)), features])
    ridge = np.full(design.shape[1], _RIDGE)
    ridge[0] = 1e-6
    found = np.zeros(design.shape[1])
    for _ in range(_MAX_STEPS):
        chances = (1 + np.tanh(design @ found / 2)) / 2
        gradient = design.T @ (labels - chances) - ridge * found
        curvature = (design.T * (chances * (1 - chances))) @ design + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        found = found + step
        if np.abs(step).max() < _TOLERANCE:
            break
    return found


def _probabilities(model: Combine, rows: Sequence[LabelledRow]) -> Floats:
    given: list[dict[str, Any]] = [
        {**row.scores, "method": row.method, "edit_type": row.edit_type} for row in rows
    ]
    answers: list[Any] = model.run(given, None)
    return np.array([answer["right_probability"] for answer in answers], np.float64)


def _values(rows: Sequence[LabelledRow], name: str) -> Floats:
    """Returns a score of each row; NaN where it has none."""
    return np.array([row.scores[name] for row in rows], np.float64)


def _folds(rows: Sequence[LabelledRow]) -> NDArray[np.int64]:
    """Returns the fold of each row: sources in the order of their digests, dealt in turn."""
    digests = {row.source: hashlib.sha256(row.source.encode()).hexdigest() for row in rows}
    order = {s: place % FOLDS for place, s in enumerate(sorted(digests, key=digests.__getitem__))}
    return np.array([order[row.source] for row in rows], np.int64)


def _requests(rows: Sequence[LabelledRow]) -> list[list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for place, row in enumerate(rows):
        found.setdefault((row.source, row.request), []).append(place)
    return list(found.values())


def _auc(values: Floats, is_good: Bools) -> float | None:
    known = np.isfinite(values)
    return auc(values[known], is_good[known])


def _chosen(values: Floats, is_good: Bools, requests: Sequence[list[int]]) -> float:
    """Returns the share of requests whose best try is right; equal ones share the place."""
    ranks = np.where(np.isfinite(values), values, -np.inf)
    shares = [
        is_good[own][ranks[own] == ranks[own].max()].mean() for own in map(np.array, requests)
    ]
    return float(np.mean(shares))


def _short(value: float) -> float:
    return float(f"{value:.6g}")
