"""Which rows a report shows, and what it tells of each.

A gallery of every row would not open at 10^5 rows, so a report shows a sample that is the same
every time: rows with the smallest keys, since keys are hashes. A share of the places belongs to
rows that somebody should see: failed and rejected ones, of every cause, and the worst accepted.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from heapq import nsmallest
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import pyarrow as pa
from overpaint.jobs.report.data import each_part
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.manifest import ACCEPTED, FAILED, REJECTED

TRUTH_GAIN = "truth_gain"
_MAX_CAUSES = 200
_ROW_BYTES = 5_000
_EXACT_IN_JAVASCRIPT = 2**53 - 1
_TEXT_LIMITS = (600, 160, 40, 8)


class Pick(NamedTuple):
    """A row of the manifest; picks order by their rank, then by key."""

    rank: float
    key: str
    part: int
    place: int


class Picker:
    """Chooses rows part by part, holding no more than it may show.

    Args:
        num_rows: how many to show at most.
        policy: whose scores say what is worst.
        scores: the scores of the manifest.
    """

    def __init__(self, num_rows: int, policy: Policy, scores: Sequence[str]) -> None:
        self._num_rows = num_rows
        self.num_places = num_rows // 6
        """Places for failed rows, as many for rejected ones, as many for the worst accepted."""
        self._sample: list[Pick] = []
        self._causes: dict[str, dict[str, list[Pick]]] = {FAILED: {}, REJECTED: {}}
        self._worst: dict[tuple[str, int], list[Pick]] = {
            (name, sign): [] for name, sign in _directions(policy, scores)
        }

    @property
    def columns(self) -> list[str]:
        """The columns it looks at."""
        names = {name for name, _ in self._worst}
        return ["key", "status", "stage", "error_code", "reject_reasons", *sorted(names)]

    def look(self, part: int, table: pa.Table) -> None:
        """Looks at the rows of one part."""
        keys: list[Any] = table["key"].to_pylist()
        statuses: list[Any] = table["status"].to_pylist()
        picks = [Pick(0.0, key, part, place) for place, key in enumerate(keys)]
        self._sample = nsmallest(self._num_rows, chain(self._sample, picks))
        ended_badly = [i for i, status in enumerate(statuses) if status != ACCEPTED]
        self._look_at_causes(table.take(pa.array(ended_badly, pa.int64())), ended_badly, picks)
        for (name, sign), held in self._worst.items():
            values = table[name].to_pylist()
            ranked = (
                pick._replace(rank=sign * value)
                for pick, value, status in zip(picks, values, statuses, strict=True)
                if status == ACCEPTED and value is not None and not math.isnan(value)
            )
            held[:] = nsmallest(self.num_places, chain(held, ranked))

    def _look_at_causes(self, bad: pa.Table, indices: list[int], picks: list[Pick]) -> None:
        found: dict[tuple[str, str], list[Pick]] = {}
        columns = ["status", "stage", "error_code", "reject_reasons"]
        for index, row in zip(indices, bad.select(columns).to_pylist(), strict=True):
            found.setdefault((row["status"], _cause(row)), []).append(picks[index])
        for (status, cause), more in found.items():
            causes = self._causes[status]
            if cause in causes or len(causes) < _MAX_CAUSES:
                causes[cause] = nsmallest(self.num_places, chain(causes.get(cause, ()), more))

    def picks(self) -> list[Pick]:
        """The chosen rows in the manifest's order."""
        chosen: dict[str, Pick] = {}
        groups = (self._causes[FAILED].values(), self._causes[REJECTED].values())
        for group in (*groups, self._worst.values()):
            taken = in_turn(group, self.num_places)
            chosen |= {pick.key: pick for pick in taken}
        for pick in self._sample:
            if len(chosen) >= self._num_rows:
                break
            chosen.setdefault(pick.key, pick)
        return sorted(chosen.values(), key=lambda pick: (pick.part, pick.place))


def in_turn(groups: Iterable[Sequence[Pick]], num_places: int) -> list[Pick]:
    """The first of each group, then the second of each, until the places are taken."""
    rounds = chain.from_iterable(zip_longest(*groups))
    picks = {pick.key: pick for pick in rounds if pick is not None}
    return list(picks.values())[:num_places]


def read_rows(folder: RunFolder, picks: Sequence[Pick]) -> list[dict[str, Any]]:
    """Every column of the chosen rows, which are in the manifest's order."""
    by_part: dict[int, list[int]] = {}
    for pick in picks:
        by_part.setdefault(pick.part, []).append(pick.place)
    return [
        row
        for part, table in each_part(folder, list(by_part), None)
        for row in table.take(pa.array(by_part[part], pa.int64())).to_pylist()
    ]


def shared_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns that have one value, not null, in all of several rows: told once."""
    if len(rows) < 2:
        return {}
    first, *rest = rows
    return {
        name: shown(value, _TEXT_LIMITS[0])
        for name, value in first.items()
        if name not in ("key", "status", "instruction", "edit_type", "source_uri")
        and value is not None
        and all(row[name] == value for row in rest)
    }


def shown_columns(row: Mapping[str, Any], told: Iterable[str]) -> dict[str, Any]:
    """The columns of a row as JSON holds them, long texts cut, without nulls and `told` ones."""
    skipped = set(told)
    present = {k: v for k, v in row.items() if v is not None and k not in skipped}
    values: dict[str, Any] = {}
    for limit in _TEXT_LIMITS:
        values = {name: shown(value, limit) for name, value in present.items()}
        values["key"] = row["key"]
        if len(json.dumps(values, ensure_ascii=False).encode()) <= _ROW_BYTES:
            return values
    kept = ("key", "status", "stage", "error_code", "edit_type")
    return {name: values[name] for name in kept if name in values}


def shown(value: Any, limit: int) -> Any:
    """A value as JSON can hold it, texts cut to `limit` characters."""
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


def _directions(policy: Policy, scores: Sequence[str]) -> list[tuple[str, int]]:
    """The scores that say what is worst, with 1 where small values are and -1 where large."""
    found = [(name, 1) for name, bounds in policy.root.items() if bounds.min is not None]
    found += [(name, -1) for name, bounds in policy.root.items() if bounds.max is not None]
    if TRUTH_GAIN in scores and (TRUTH_GAIN, 1) not in found:
        found.insert(0, (TRUTH_GAIN, 1))
    return [(name, sign) for name, sign in found if name in scores]
