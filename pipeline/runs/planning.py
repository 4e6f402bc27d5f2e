"""Planning: every row of a run, with its key and seed, written down before anything is edited.

The plan is complete and never shrinks; the remaining tasks are derived from it. Rows of one source
stand together, in the order in which the input first names it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
from overpaint.pipeline import columns as c
from overpaint.pipeline.choices import PerChoice
from overpaint.pipeline.errors import RowError, UsageError
from overpaint.pipeline.identity import RowIdentity, group_id, row_seed
from overpaint.pipeline.operator import Operator
from overpaint.pipeline.plan import ROW_CONTROLS, Plan
from overpaint.pipeline.plan_checks import draws
from overpaint.pipeline.runs.column_types import FIRST, plan_schema, typed
from overpaint.pipeline.runs.folder import RunFolder, part_path
from overpaint.pipeline.runs.inputs import Input

PART_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Planned:
    """Size of a plan.

    Attributes:
        num_rows: rows written.
        num_duplicates: identical rows left out.
        num_parts: parts written.
    """

    num_rows: int
    num_duplicates: int
    num_parts: int


def write_plan(plan: Plan, run_input: Input, folder: RunFolder) -> Planned:
    """Writes `plan/part-*.parquet`, and removes parts that an earlier, longer plan has left.

    Raises:
        UsageError: a seed is out of range, or a column is not of the type that a stage reads.
    """
    counts = Planned(0, 0, 0)
    stale = set(folder.parts("plan"))
    for part, (table, num_duplicates) in enumerate(plan_parts(plan, run_input)):
        folder.write_part("plan", part, table)
        stale.discard(part)
        counts = Planned(
            counts.num_rows + table.num_rows, counts.num_duplicates + num_duplicates, part + 1
        )
    folder.storage.remove(part_path("plan", part) for part in stale)
    return counts


def plan_parts(plan: Plan, run_input: Input) -> Iterator[tuple[pa.Table, int]]:
    """Yields the parts of a plan, in order, each with the number of identical rows left out."""
    expander = _Expander(plan, run_input.table.column_names)
    schema = plan_schema(plan, run_input.table.schema)
    table = _grouped(typed(plan, run_input, schema))
    for start, stop in _part_bounds(table["source_uri"], expander.rows_per_input_row):
        rows, num_duplicates = expander.rows(table.slice(start, stop - start))
        yield pa.Table.from_pydict(rows, schema), num_duplicates


def _grouped(table: pa.Table) -> pa.Table:
    """Sorts the rows of one source together, sources in order of first appearance."""
    sources: Any = table["source_uri"].combine_chunks()
    codes: np.ndarray[Any, Any] = np.asarray(sources.dictionary_encode().indices)
    if np.all(codes[1:] >= codes[:-1]):
        return table
    order: Any = pa.array(np.argsort(codes, kind="stable"))
    return table.take(order)


def _part_bounds(sources: Any, rows_per_input_row: int) -> Iterator[tuple[int, int]]:
    """Yields bounds of about PART_ROWS planned rows, moved to the end of a group if it is near."""
    step = max(1, PART_ROWS // rows_per_input_row)
    start, total = 0, len(sources)
    while start < total:
        stop = min(total, start + step)
        while stop < min(total, start + 2 * step) and sources[stop].as_py() == (
            sources[stop - 1].as_py()
        ):
            stop += 1
        yield start, stop
        start = stop


class _Form:
    """The form of a plan that rows choose: keys, and whether candidates of a row differ."""

    def __init__(self, plan: Plan) -> None:
        self.identity = RowIdentity(plan.fingerprint(), plan.key_columns())
        self.draws = draws(plan.stages)


class _Expander:
    """Expansion of input rows to planned rows: defaults, edits, candidates, keys, seeds."""

    def __init__(self, plan: Plan, names: list[str]) -> None:
        self._candidates: int = plan.row.get("candidates", 1)
        self._edits: list[dict[str, Any]] = plan.row.get("edits", [{}])
        self._defaults = {k: v for k, v in plan.row.items() if k not in ROW_CONTROLS}
        self._forms = PerChoice(plan, _Form)
        self._checking = [
            stage
            for stage in plan.stages
            if type(stage.operator).check_row is not Operator.check_row
        ]
        self._names = plan.planned_column_names(names)
        # 64 bits of each key: enough to tell the rows of one run apart, and 60 bytes a row.
        self._seen: set[int] = set()

    @property
    def rows_per_input_row(self) -> int:
        """The number of planned rows that one input row becomes."""
        return self._candidates * len(self._edits)

    def rows(self, table: pa.Table) -> tuple[dict[str, list[Any]], int]:
        """Returns the planned rows of a slice of the input, by column, and the number left out."""
        planned: dict[str, list[Any]] = {column.name: [] for column in FIRST}
        planned |= {name: [] for name in self._names.values()}
        num_duplicates = 0
        for input_row in table.to_pylist():
            for edit, candidate in product(self._edits, range(self._candidates)):
                defaults = {**self._defaults, **edit}
                row = self._renamed({**defaults, **_present(input_row, defaults)})
                form = self._form(row)
                self._check(row)
                if candidate and not form.draws:
                    continue
                key = form.identity.key(row, candidate)
                if (short := int(key[:16], 16)) in self._seen:
                    num_duplicates += 1
                    continue
                self._seen.add(short)
                self._append(planned, row, key, candidate)
        return planned, num_duplicates

    def _form(self, row: dict[str, Any]) -> "_Form":
        try:
            return self._forms.of(row)
        except RowError as error:
            raise UsageError(f"{row['source_uri']}: {error}") from error

    def _check(self, row: dict[str, Any]) -> None:
        for stage in self._checking:
            try:
                stage.operator.check_row(stage.to_operator(row))
            except ValueError as error:
                where = f"{row['source_uri']}: stage {stage.name!r}"
                raise UsageError(f"{where}: {error}") from error

    def _renamed(self, row: dict[str, Any]) -> dict[str, Any]:
        return {self._names.get(name, name): value for name, value in row.items()}

    def _append(
        self, planned: dict[str, list[Any]], row: dict[str, Any], key: str, candidate: int
    ) -> None:
        for name in self._names.values():
            planned[name].append(row.get(name))
        planned["key"].append(key)
        planned["group_id"].append(group_id(row["source_uri"]))
        planned["candidate"].append(candidate)
        # Several candidates with one seed would be one picture several times.
        seed = row.get("seed")
        planned["seed"].append(row_seed(key) if seed is None else (seed + candidate) % 2**63)
        planned["source_uri"].append(row["source_uri"])


def _present(row: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Drops the nulls of a row, so that defaults serve where the table has no value or blanks."""
    given = {name: value for name, value in row.items() if value is not None}
    return {name: v for name, v in given.items() if name not in defaults or not c.is_missing(v)}
