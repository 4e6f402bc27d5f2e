"""What a report says of all rows: counted over the manifest part by part, in bounded memory."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
from overpaint.jobs.report.truth import Success
from overpaint.pipeline import columns as c
from overpaint.pipeline.policy import Bounds, Policy
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.manifest import Ledger

TRUTH_SUCCESS, ORACLE_SUCCESS = "truth_success", "oracle_success"
_TARGET_URI = "in_target_uri"
_COUNTED = (c.KEY, c.STATUS, c.STAGE, c.ERROR_CODE, c.REJECT_REASONS, c.EDIT_TYPE)
_PARTS_AHEAD = 4
"""Parts read at once: enough to hide an object store's latency, few enough for memory."""


class Ending(NamedTuple):
    """How rows ended; `stage` and `code` are empty where the policy decided."""

    status: str
    stage: str
    code: str


@dataclass(slots=True)
class Counts:
    """Everything that is counted over the whole manifest."""

    endings: Counter[Ending] = field(default_factory=Counter[Ending])
    edit_types: Counter[str] = field(default_factory=Counter[str])
    broken: Counter[str] = field(default_factory=Counter[str])
    """How many rows break each rule of the policy."""
    broken_alone: Counter[str] = field(default_factory=Counter[str])
    """How many rows break that rule and no other."""
    num_judged: int = 0
    """Rows that came through every stage, so that the policy decided."""
    truth: dict[str, Success] = field(default_factory=dict[str, Success])
    """By edit type; empty where the run does not measure it."""

    @property
    def num_rows(self) -> int:
        """Rows of the manifest."""
        return sum(self.endings.values())

    def ledger(self, num_pending: int) -> Ledger:
        """The run's ledger, given how many planned rows are not in the manifest."""
        by_status: Counter[str] = Counter()
        for ending, num_rows in self.endings.items():
            by_status[ending.status] += num_rows
        ended = {name: by_status[name] for name in ("accepted", "rejected", "failed")}
        return Ledger(planned=self.num_rows + num_pending, **ended)

    def look(self, _part: int, table: pa.Table) -> None:
        """Counts the rows of one part."""
        for row in _grouped(table, ["status", "stage", "error_code"]):
            ending = Ending(*(row[name] or "" for name in ("status", "stage", "error_code")))
            self.endings[ending] += row["count_all"]
        for row in _grouped(table, ["edit_type"]):
            self.edit_types[row["edit_type"] or ""] += row["count_all"]
        self.num_judged += table["stage"].null_count
        self._add_reasons(table["reject_reasons"])
        if {TRUTH_SUCCESS, _TARGET_URI} <= set(table.column_names):
            for name, found in _successes(table).items():
                self.truth[name] = _sum(self.truth.get(name), found)

    def _add_reasons(self, column: Any) -> None:
        for reasons in column.drop_null().to_pylist():
            self.broken.update(reasons)
            if len(reasons) == 1:
                self.broken_alone[reasons[0]] += 1


def manifest_schema(folder: RunFolder) -> pa.Schema | None:
    """The columns of the manifest; None where no part is finished."""
    parts = folder.parts("manifest")
    return folder.read_part("manifest", parts[0]).schema if parts else None


def counted_columns(schema: pa.Schema) -> list[str]:
    """The columns that `Counts` reads, of those there are."""
    names = (*(column.name for column in _COUNTED), TRUTH_SUCCESS, ORACLE_SUCCESS)
    names += (_TARGET_URI,)
    return [name for name in names if name in schema.names]


def score_names(schema: pa.Schema) -> list[str]:
    """The numeric columns that operators added, in the manifest's order."""
    fixed = {column.name for column in c.MANIFEST} | {TRUTH_SUCCESS, ORACLE_SUCCESS}
    return [
        column.name
        for column in schema
        if column.name not in fixed
        and not column.name.startswith("in_")
        and (pa.types.is_floating(column.type) or pa.types.is_integer(column.type))
    ]


def each_part(
    folder: RunFolder, parts: Sequence[int], columns: Sequence[str] | None
) -> Iterator[tuple[int, pa.Table]]:
    """Manifest parts in order, a few read ahead.

    Args:
        folder: the run.
        parts: which.
        columns: which columns; None for all.
    """

    def read(part: int) -> pa.Table:
        return folder.read_part("manifest", part, columns)

    with ThreadPoolExecutor(_PARTS_AHEAD) as pool:
        for start in range(0, len(parts), _PARTS_AHEAD):
            numbers = parts[start : start + _PARTS_AHEAD]
            yield from zip(numbers, pool.map(read, numbers), strict=True)


def num_pending(folder: RunFolder) -> int:
    """Planned rows whose part of the manifest is not written yet."""
    unfinished = set(folder.parts("plan")) - set(folder.parts("manifest"))
    return sum(folder.read_part("plan", part, ["key"]).num_rows for part in sorted(unfinished))


def policy_rules(policy: Policy) -> list[str]:
    """Every rule that a row can break, as `reject_reasons` names it, in order."""
    found: list[str] = []
    for name, bounds in policy.root.items():
        found += [rule for rule in _rules(name, bounds) if rule]
    return found


def _rules(name: str, bounds: Bounds) -> tuple[str | None, ...]:
    values = (float("-inf") if bounds.min is not None else None,)
    values += (float("inf") if bounds.max is not None else None,)
    bounded = tuple(bounds.broken_by(name, value) for value in values if value is not None)
    return (*bounded, bounds.broken_by(name, None))


def _grouped(table: pa.Table, names: list[str]) -> list[dict[str, Any]]:
    return table.select(names).group_by(names).aggregate([([], "count_all")]).to_pylist()


def _successes(table: pa.Table) -> dict[str, Success]:
    """Success by edit type, of the rows whose truth is known."""
    table = table.filter(pa.array([bool(uri) for uri in table[_TARGET_URI].to_pylist()]))
    measures: list[Any] = [(TRUTH_SUCCESS, "sum"), ([], "count_all")]
    if ORACLE_SUCCESS in table.column_names:
        measures += [(ORACLE_SUCCESS, "count"), (ORACLE_SUCCESS, "sum")]
    return {
        row["edit_type"] or "": Success(
            planned=row["count_all"],
            successful=int(row[f"{TRUTH_SUCCESS}_sum"] or 0),
            measured=row.get(f"{ORACLE_SUCCESS}_count", 0),
            oracle=int(row.get(f"{ORACLE_SUCCESS}_sum") or 0),
        )
        for row in table.group_by("edit_type").aggregate(measures).to_pylist()
    }


def _sum(first: Success | None, second: Success) -> Success:
    if first is None:
        return second
    return Success(
        planned=first.planned + second.planned,
        successful=first.successful + second.successful,
        measured=first.measured + second.measured,
        oracle=first.oracle + second.oracle,
    )


def survey(
    folder: RunFolder, columns: Sequence[str], looks: Sequence[Callable[[int, pa.Table], None]]
) -> None:
    """Shows every part of the manifest, once, to each of `looks`."""
    for part, table in each_part(folder, folder.parts("manifest"), columns):
        for look in looks:
            look(part, table)
