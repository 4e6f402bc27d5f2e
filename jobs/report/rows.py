"""The rows that a report shows, and the values that it shows of each.

A gallery of every row would not open at 10^5 rows, so a report shows a sample that is the same
every time: rows with the smallest keys, since keys are hashes. A share of the places belongs to
rows that somebody should see: failed and rejected ones, of every cause, and the worst accepted.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import nsmallest
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import pyarrow as pa
from overpaint.jobs.report.scores import score_names
from overpaint.pipeline.columns import STORED_SPANS
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.runs.manifest import ACCEPTED, FAILED, REJECTED

TRUTH_GAIN = "truth_gain"
_CAUSE = ["status", "stage", "error_code", "reject_reasons"]
_MAX_CAUSES = 200
_ROW_BYTES = 5_000
_EXACT_IN_JAVASCRIPT = 2**53 - 1
_TEXT_LIMITS = (600, 160, 40, 8)


class SampledRow(NamedTuple):
    """A row of the manifest; sampled rows order by rank, then by key.

    Attributes:
        rank: how early the row is taken: small ranks first.
        key: key of the row.
        part: part of the manifest that holds the row.
        offset: place of the row in its part, from 0.
    """

    rank: float
    key: str
    part: int
    offset: int


class RowSampler:
    """Chooses rows of a manifest, part by part, and holds no more rows than it may choose.

    Args:
        max_rows: number of rows to choose at most.
        policy: bounds that say which scores are bad when they are small or large.

    Attributes:
        num_places: places that belong to failed rows, as many to rejected ones, and as many to
            the worst accepted ones.
    """

    def __init__(self, max_rows: int, policy: Policy) -> None:
        self.num_places = max_rows // 6
        self._max_rows = max_rows
        self._directions = _directions(policy)
        self._smallest_keys: list[SampledRow] = []
        self._causes: dict[str, dict[str, list[SampledRow]]] = {FAILED: {}, REJECTED: {}}
        self._worst: dict[tuple[str, int], list[SampledRow]] = {}

    def columns(self, part: int, schema: pa.Schema) -> Collection[str]:
        """Names the columns that say how a row ended, and the scores that the policy bounds."""
        del part
        scores = {name for name, _ in self._directions} & set(score_names(schema))
        return ["key", *_CAUSE, *scores]

    def add_part(self, part: int, table: pa.Table) -> None:
        """Considers the rows of one part."""
        keys: list[Any] = table["key"].to_pylist()
        statuses: list[Any] = table["status"].to_pylist()
        rows = [SampledRow(0.0, key, part, offset) for offset, key in enumerate(keys)]
        self._smallest_keys = nsmallest(self._max_rows, chain(self._smallest_keys, rows))
        self._add_causes(table, [row for row in rows if statuses[row.offset] != ACCEPTED])
        accepted = [row for row in rows if statuses[row.offset] == ACCEPTED]
        scores = score_names(table.schema)
        for name, sign in self._directions:
            if name in scores:
                self._add_worst((name, sign), accepted, table[name].to_pylist())

    def _add_causes(self, table: pa.Table, rows: Sequence[SampledRow]) -> None:
        endings = table.select(_CAUSE).take(pa.array([row.offset for row in rows], pa.int64()))
        by_cause: dict[tuple[str, str], list[SampledRow]] = {}
        for row, ending in zip(rows, endings.to_pylist(), strict=True):
            by_cause.setdefault((ending["status"], _cause(ending)), []).append(row)
        for (status, cause), more in by_cause.items():
            causes = self._causes[status]
            if cause in causes or len(causes) < _MAX_CAUSES:
                causes[cause] = nsmallest(self.num_places, chain(causes.get(cause, ()), more))

    def _add_worst(
        self, direction: tuple[str, int], accepted: Sequence[SampledRow], values: Sequence[Any]
    ) -> None:
        ranked = (
            row._replace(rank=direction[1] * values[row.offset])
            for row in accepted
            if values[row.offset] is not None and not math.isnan(values[row.offset])
        )
        worst = chain(self._worst.get(direction, ()), ranked)
        self._worst[direction] = nsmallest(self.num_places, worst)

    def sample(self) -> list[SampledRow]:
        """Returns the chosen rows in the manifest's order."""
        chosen: dict[str, SampledRow] = {}
        causes = (self._causes[FAILED].values(), self._causes[REJECTED].values())
        worst = [self._worst[each] for each in self._directions if each in self._worst]
        for groups in (*causes, worst):
            chosen |= {row.key: row for row in round_robin(groups, self.num_places)}
        for row in self._smallest_keys:
            if len(chosen) >= self._max_rows:
                break
            chosen.setdefault(row.key, row)
        return sorted(chosen.values(), key=lambda row: (row.part, row.offset))


def round_robin(groups: Iterable[Sequence[SampledRow]], num_places: int) -> list[SampledRow]:
    """Takes the first row of each group, then the second of each, until the places are taken."""
    rounds = chain.from_iterable(zip_longest(*groups))
    rows = {row.key: row for row in rounds if row is not None}
    return list(rows.values())[:num_places]


class RowReader:
    """Reads every column of some rows of a manifest.

    Args:
        sample: rows to read, in the manifest's order.

    Attributes:
        rows: the rows that have been read.
    """

    def __init__(self, sample: Iterable[SampledRow]) -> None:
        self.rows: list[dict[str, Any]] = []
        self._offsets: dict[int, list[int]] = {}
        for row in sample:
            self._offsets.setdefault(row.part, []).append(row.offset)

    def columns(self, part: int, schema: pa.Schema) -> Collection[str]:
        """Names all columns of a part that holds one of the rows, and none of another."""
        return schema.names if part in self._offsets else ()

    def add_part(self, part: int, table: pa.Table) -> None:
        """Reads the rows of one part."""
        if part in self._offsets:
            offsets = pa.array(self._offsets[part], pa.int64())
            self.rows += table.take(offsets).to_pylist()


def shared_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the columns that have one value, not null, in all of several rows."""
    if len(rows) < 2:
        return {}
    first, *rest = rows
    return {
        name: json_value(value, _TEXT_LIMITS[0])
        for name, value in first.items()
        if name not in ("key", "status", "instruction", "edit_type", "source_uri")
        and value is not None
        and all(row[name] == value for row in rest)
    }


def shown_columns(row: Mapping[str, Any], shared: Iterable[str]) -> dict[str, Any]:
    """Returns the values of a row that its card shows, long texts cut, without nulls.

    Args:
        row: row of the manifest.
        shared: columns that are shown once for all rows, and left out here.
    """
    skipped = {*shared, STORED_SPANS.name}  # which is for machines alone
    present = {k: v for k, v in row.items() if v is not None and k not in skipped}
    values: dict[str, Any] = {}
    for limit in _TEXT_LIMITS:
        values = {name: json_value(value, limit) for name, value in present.items()}
        values["key"] = row["key"]
        if len(json.dumps(values, ensure_ascii=False).encode()) <= _ROW_BYTES:
            return values
    kept = ("key", "status", "stage", "error_code", "edit_type")
    return {name: values[name] for name in kept if name in values}


def json_value(value: Any, limit: int) -> Any:
    """Returns a value as JSON can hold it, texts cut to `limit` characters."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _EXACT_IN_JAVASCRIPT else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [_cut(item, limit) for item in value[:20]]
    is_nested = isinstance(value, dict | list | tuple)
    return _cut(json.dumps(value, default=str) if is_nested else str(value), limit)


def _cut(text: str, limit: int) -> str:
    # Lone surrogates come from file names that are not UTF-8; a page could not hold them.
    text = text.encode(errors="replace").decode()
    return text if len(text) <= limit else f"{text[:limit]}…"


def _cause(row: Mapping[str, Any]) -> str:
    if row["stage"] is not None:
        return f"{row['stage']}\n{row['error_code']}"
    return (row["reject_reasons"] or [""])[0]


def _directions(policy: Policy) -> list[tuple[str, int]]:
    """Lists the scores that say what is worst, with 1 where small values are and -1 where large."""
    directions = [(name, 1) for name, bounds in policy.bounds.items() if bounds.min is not None]
    directions += [(name, -1) for name, bounds in policy.bounds.items() if bounds.max is not None]
    return directions if (TRUTH_GAIN, 1) in directions else [(TRUTH_GAIN, 1), *directions]
