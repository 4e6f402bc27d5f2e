"""Choice among the candidates of each request, from ranks alone.

A request is what was asked of one source: the same pixels, words, edit type, mask and whatever else
an edit is shown. Higher ranks are better, ties go by key, and a candidate without a rank is never
chosen by rank.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from overpaint.jobs.export.index import Candidates
from overpaint.jobs.export.request import ExportRequest

Kind = Literal["pairs", "preferences", "prompts"]
"""What an export is made of: source and target, winner and loser, or requests alone."""
Numbers = np.ndarray[Any, np.dtype[np.int64]]

NONE = -1


@dataclass(slots=True)
class Chosen:
    """The examples of an export, before pictures are read.

    Attributes:
        winners: numbers of candidates.
        losers: numbers of candidates that lose against them; `NONE` where there is none.
        left_out: candidates, or requests, that are in no example, by reason.
    """

    winners: Numbers
    losers: Numbers
    left_out: Counter[str] = field(default_factory=Counter[str])

    def keep(self, kept: np.ndarray[Any, np.dtype[np.bool_]], reason: str) -> None:
        """Drops examples and counts them as left out for one reason."""
        self.left_out[reason] += int(np.count_nonzero(~kept))
        self.winners, self.losers = self.winners[kept], self.losers[kept]


def requests_of(rows: Candidates, sources: Numbers) -> Numbers:
    """Returns the number of each candidate's request.

    Args:
        rows: candidates.
        sources: number of each candidate's source, equal for equal pixels.
    """
    if not len(rows):
        return np.zeros(0, np.int64)
    _, words = np.unique(rows["words"], return_inverse=True)
    _, requests = np.unique(np.stack([sources, words]), axis=1, return_inverse=True)
    return requests.reshape(-1)


def choose(rows: Candidates, requests: Numbers, kind: Kind, request: ExportRequest) -> Chosen:
    """Chooses the examples of an export, in the order of the candidates.

    Args:
        rows: candidates; only preferences look at whether a row was accepted.
        requests: number of each candidate's request; negative for those that cannot be used.
        kind: what the export is made of.
        request: policy of the choice.
    """
    usable = np.flatnonzero(requests >= 0)
    if kind == "pairs" and not request.best:
        return Chosen(usable, np.full(len(usable), NONE))
    left_out: Counter[str] = Counter()
    choose_from = {"pairs": _best, "preferences": _preferences, "prompts": _first}[kind]
    pairs = [
        pair
        for group in _groups(rows, requests, usable)
        for pair in choose_from(rows, group, request, left_out)
    ]
    found = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return Chosen(found[:, 0], found[:, 1], left_out)


def _groups(rows: Candidates, requests: Numbers, places: Numbers) -> Iterator[Numbers]:
    """Yields the candidates of each request, best first; those without a rank come last."""
    order = np.lexsort((rows["key"][places], -rows["rank"][places], requests[places]))
    places = places[order]
    ends = np.flatnonzero(np.diff(requests[places])) + 1
    yield from (group for group in np.split(places, ends) if len(group))


def _first(
    rows: Candidates, group: Numbers, request: ExportRequest, left_out: Counter[str]
) -> Iterator[tuple[int, int]]:
    del rows, request
    left_out["same_request"] += len(group) - 1
    yield int(group[0]), NONE


def _best(
    rows: Candidates, group: Numbers, request: ExportRequest, left_out: Counter[str]
) -> Iterator[tuple[int, int]]:
    ranked = group[~np.isnan(rows["rank"][group])]
    left_out["no_rank"] += len(group) - len(ranked)
    if not len(ranked):
        return
    margin = _margin(rows, ranked)
    if margin is not None and request.min_margin is not None and margin < request.min_margin:
        left_out["margin"] += len(ranked)
        return
    left_out["not_best"] += len(ranked) - 1
    yield int(ranked[0]), NONE


def _margin(rows: Candidates, ranked: Numbers) -> float | None:
    """Returns the lead of the best candidate; None where it has no competitor."""
    ranks = rows["rank"][ranked]
    return float(ranks[0] - ranks[1]) if len(ranks) > 1 else None


def _preferences(
    rows: Candidates, group: Numbers, request: ExportRequest, left_out: Counter[str]
) -> Iterator[tuple[int, int]]:
    ranks = rows["rank"][group]
    ranked = group[~np.isnan(ranks)]
    left_out["no_rank"] += len(group) - len(ranked)
    may_win = ranked if request.all_rows else ranked[rows["accepted"][ranked]]
    if not len(may_win):
        left_out["no_winner"] += len(ranked)
        return
    winner = int(may_win[0])
    losers = ranked[ranked != winner]
    if not len(losers):
        left_out["no_loser"] += 1
        return
    margins = rows["rank"][winner] - rows["rank"][losers]
    is_less = margins > 0
    left_out["tie"] += int(np.count_nonzero(margins == 0))
    left_out["better_but_rejected"] += int(np.count_nonzero(margins < 0))
    is_wide = is_less & (margins >= (request.min_margin or 0))
    left_out["margin"] += int(np.count_nonzero(is_less & ~is_wide))
    losers = losers[is_wide]
    if request.best and len(losers):
        left_out["not_worst"] += len(losers) - 1
        losers = losers[-1:]
    yield from ((winner, int(loser)) for loser in losers)
