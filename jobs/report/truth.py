"""Success of a run where the true edits are known, beside the oracle's: what a VAE lets through."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pyarrow as pa

TRUTH_SUCCESS, ORACLE_SUCCESS = "truth_success", "oracle_success"
_TARGET_URI = "in_target_uri"


@dataclass(frozen=True, slots=True)
class Success:
    """Counts of rows whose true edit is known.

    Attributes:
        planned: rows that ended, in whatever way.
        successful: rows whose edit matches the truth.
        measured: rows that were edited, so that the oracle was measured.
        oracle: rows whose true target survives the VAE's round trip, of those measured.
    """

    planned: int = 0
    successful: int = 0
    measured: int = 0
    oracle: int = 0

    def plus(self, other: "Success") -> "Success":
        """Returns both counts together."""
        return Success(
            self.planned + other.planned,
            self.successful + other.successful,
            self.measured + other.measured,
            self.oracle + other.oracle,
        )


class SuccessCounter:
    """Success by the values of some columns, such as the edit type.

    Args:
        by: names of columns whose equal values are counted together; null counts as "".

    Attributes:
        groups: success by the columns' values; empty where the run does not measure it.
    """

    def __init__(self, *by: str) -> None:
        self._by = by
        self.groups: dict[tuple[str, ...], Success] = {}

    @property
    def total(self) -> Success:
        """The success of all groups together."""
        return reduce(Success.plus, self.groups.values(), Success())

    def named(self) -> dict[str, Success]:
        """Returns the success of `all` rows, then of each group; empty where it is not measured."""
        if not self.groups:
            return {}
        groups = {" ".join(by) or "other": success for by, success in sorted(self.groups.items())}
        return {"all": self.total, **groups}

    def columns(self, part: int, schema: pa.Schema) -> Collection[str]:
        """Names the columns that tell success, and those that rows are grouped by."""
        del part
        names = {TRUTH_SUCCESS, ORACLE_SUCCESS, _TARGET_URI, *self._by}
        return names & set(schema.names)

    def add_part(self, part: int, table: pa.Table) -> None:
        """Counts the rows of one part whose truth is known."""
        del part
        if not {TRUTH_SUCCESS, _TARGET_URI} <= set(table.column_names):
            return
        table = table.filter(pa.array([bool(uri) for uri in table[_TARGET_URI].to_pylist()]))
        measures: list[Any] = [(TRUTH_SUCCESS, "sum"), ([], "count_all")]
        if ORACLE_SUCCESS in table.column_names:
            measures += [(ORACLE_SUCCESS, "count"), (ORACLE_SUCCESS, "sum")]
        for row in table.group_by(list(self._by)).aggregate(measures).to_pylist():
            group = tuple(row[name] or "" for name in self._by)
            success = Success(
                planned=row["count_all"],
                successful=int(row[f"{TRUTH_SUCCESS}_sum"] or 0),
                measured=row.get(f"{ORACLE_SUCCESS}_count", 0),
                oracle=int(row.get(f"{ORACLE_SUCCESS}_sum") or 0),
            )
            self.groups[group] = self.groups.get(group, Success()).plus(success)
