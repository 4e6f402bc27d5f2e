"""Counts over all rows of a manifest: how rows ended, and which rules of the policy they broke."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
from overpaint.pipeline.policy import Bounds, Policy
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.manifest import FAILED, Ledger

_ENDING = ["status", "stage", "error_code"]


class Ending(NamedTuple):
    """The way in which rows ended.

    Attributes:
        status: accepted, rejected or failed.
        stage: stage that rejected or failed the rows; "" where the policy decided.
        code: row error code; "" where the policy decided.
    """

    status: str
    stage: str
    code: str


@dataclass(slots=True)
class EndingCounter:
    """Numbers of rows by their ending, and by the rules of the policy that they broke.

    Attributes:
        endings: rows of each ending.
        broken: rows that break each rule of the policy.
        broken_alone: rows that break that rule and no other.
        num_judged: rows that came through every stage, so that the policy decided.
    """

    endings: Counter[Ending] = field(default_factory=Counter[Ending])
    broken: Counter[str] = field(default_factory=Counter[str])
    broken_alone: Counter[str] = field(default_factory=Counter[str])
    num_judged: int = 0

    @property
    def num_rows(self) -> int:
        """The number of rows in the manifest."""
        return self.endings.total()

    def ledger(self, num_pending: int = 0) -> Ledger:
        """Returns the run's ledger.

        Args:
            num_pending: planned rows that are not in the manifest.
        """
        by_status: Counter[str] = Counter()
        for ending, num_rows in self.endings.items():
            by_status[ending.status] += num_rows
        ended = {name: by_status[name] for name in ("accepted", "rejected", "failed")}
        return Ledger(planned=self.num_rows + num_pending, **ended)

    def error_codes(self) -> dict[str, int]:
        """Returns the numbers of failed rows by their code, the most frequent first."""
        codes: Counter[str] = Counter()
        for ending, num_rows in self.endings.items():
            if ending.status == FAILED:
                codes[ending.code] += num_rows
        return dict(codes.most_common())

    def columns(self, part: int, schema: pa.Schema) -> Collection[str]:
        """Names the columns that say how a row ended."""
        del part, schema
        return [*_ENDING, "reject_reasons"]

    def add_part(self, part: int, table: pa.Table) -> None:
        """Counts the rows of one part."""
        del part
        rows = table.select(_ENDING).group_by(_ENDING).aggregate([([], "count_all")])
        for row in rows.to_pylist():
            self.endings[Ending(*(row[name] or "" for name in _ENDING))] += row["count_all"]
        self.num_judged += table["stage"].null_count
        self._add_reasons(table["reject_reasons"])

    def _add_reasons(self, column: Any) -> None:
        for reasons in column.drop_null().to_pylist():
            self.broken.update(reasons)
            if len(reasons) == 1:
                self.broken_alone[reasons[0]] += 1


def count_pending(folder: RunFolder) -> int:
    """Counts the planned rows whose part of the manifest is not written yet."""
    unfinished = set(folder.parts("plan")) - set(folder.parts("manifest"))
    return sum(folder.read_part("plan", part, ["key"]).num_rows for part in sorted(unfinished))


def policy_rules(policy: Policy) -> list[str]:
    """Lists every rule that a row can break, as `reject_reasons` names it, in order."""
    rules: list[str] = []
    for name, bounds in _bounds(policy):
        rules += [rule for rule in _rules(name, bounds) if rule]
    rules += [] if policy.best is None else [policy.best.lost]
    return list(dict.fromkeys(rules))


def _bounds(policy: Policy) -> Iterator[tuple[str, Bounds]]:
    yield from policy.bounds.items()
    for typed in policy.by_type.values():
        yield from typed.items()


def _rules(name: str, bounds: Bounds) -> tuple[str | None, ...]:
    values = (float("-inf") if bounds.min is not None else None,)
    values += (float("inf") if bounds.max is not None else None,)
    bounded = tuple(bounds.broken_by(name, value) for value in values if value is not None)
    return (*bounded, bounds.broken_by(name, None))
