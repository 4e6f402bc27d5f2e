"""The score that ranks candidates: the one that is asked for, the policy's own, or a usual one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from overpaint.jobs.export.request import ExportRequest
from overpaint.jobs.export.runs import FinishedRun
from overpaint.pipeline.errors import UsageError, near_miss

USUAL_RANKS = ("lmm_score", "clip_sim_dir")
"""Columns that rank candidates where no option and no policy names one: the first there is."""
Order = Literal["highest", "lowest"]


@dataclass(frozen=True, slots=True)
class Rank:
    """A score that ranks candidates.

    Attributes:
        column: name of the score.
        order: values that are the best.
    """

    column: str
    order: Order = "highest"

    @property
    def sign(self) -> float:
        """The factor that makes higher values better."""
        return 1.0 if self.order == "highest" else -1.0

    def of(self, row: Mapping[str, Any]) -> float | None:
        """Returns the rank of a row, of which higher is better; None where it has no such score."""
        score = row.get(self.column)
        return None if score is None else self.sign * float(score)


def find_rank(runs: Sequence[FinishedRun], request: ExportRequest) -> Rank | None:
    """Returns what ranks candidates; None where nothing is named and a run has no usual score.

    A run whose policy chooses by the same score says which of its values are the best.

    Raises:
        UsageError: a run does not have the score that was asked for, or runs rank by it in
            opposite orders.
    """
    by_policy = [_chosen_by(run) for run in runs]
    column = request.rank_by or _shared(by_policy) or _usual(runs)
    if column is None:
        return None
    for run in runs:
        if column not in run.scores:
            uri = run.folder.storage.uri
            hint = near_miss(column, run.scores)
            raise UsageError(f"--rank-by {column!r}: {uri} has no such score: {hint}")
    orders: set[Order] = {
        rank.order for rank in by_policy if rank is not None and rank.column == column
    }
    if len(orders) > 1:
        raise UsageError(
            f"{column}: the policies of these runs rank by it in opposite orders: export them apart"
        )
    order: Order = "lowest" if "lowest" in orders else "highest"
    return Rank(column, order)


def _chosen_by(run: FinishedRun) -> Rank | None:
    """Returns what the policy of a run chooses the best by."""
    best: Mapping[str, Any] | None = (run.record.recipe.get("policy") or {}).get("best")
    return Rank(best["by"], best.get("order") or "highest") if best else None


def _shared(ranks: Sequence[Rank | None]) -> str | None:
    """Returns the score by which every policy chooses; None where they do not agree."""
    columns = {None if rank is None else rank.column for rank in ranks}
    return columns.pop() if len(columns) == 1 else None


def _usual(runs: Sequence[FinishedRun]) -> str | None:
    return next((name for name in USUAL_RANKS if all(name in run.scores for run in runs)), None)
