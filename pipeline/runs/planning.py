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
import pyarrow.compute as pc
from overpaint.pipeline import columns as c
from overpaint.pipeline.choices import PerChoice
from overpaint.pipeline.errors import RowError, UsageError
from overpaint.pipeline.identity import RowIdentity, group_id, row_seed
from overpaint.pipeline.plan import ROW_CONTROLS, Plan
from overpaint.pipeline.runs.folder import RunFolder, part_path
from overpaint.pipeline.runs.inputs import Input

PART_ROWS = 4096
_FIRST = (c.KEY, c.GROUP_ID, c.CANDIDATE, c.SEED, c.SOURCE_URI)


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
    table = _grouped(_typed(plan, run_input.table, schema))
    for start, stop in _part_bounds(table["source_uri"], expander.rows_per_input_row):
        rows, num_duplicates = expander.rows(table.slice(start, stop - start))
        yield pa.Table.from_pydict(rows, schema), num_duplicates


def plan_schema(plan: Plan, input_schema: pa.Schema) -> pa.Schema:
    """Returns the columns of a plan: identity first, then the input's, under the plan's names.

    A column that a stage reads has the type that the stage declares.
    """
    read = (column for stage in plan.stages for column in (*stage.inputs, *stage.optional))
    declared = {column.name: column.type for column in (*read, *c.INPUT)}
    fields = [pa.field(column.name, column.type) for column in _FIRST]
    for name, planned in plan.planned_column_names(input_schema.names).items():
        kind = declared.get(planned)
        if kind is None and name in input_schema.names:
            kind = _unless_null(input_schema.field(name).type)
        fields.append(pa.field(planned, kind or _inferred(plan, name)))
    return pa.schema(fields)


def _unless_null(kind: pa.DataType) -> pa.DataType | None:
    return None if pa.types.is_null(kind) else kind


def _inferred(plan: Plan, name: str) -> pa.DataType:
    values = _default_values(plan, name)
    try:
        return pa.array(values).type
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UsageError(f"row.{name}: the values {values} are of different types") from error


def _typed(plan: Plan, table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Casts the input to the types of the plan, so that a value that does not fit is refused."""
    names = {**plan.planned_column_names(table.column_names), "seed": "seed"}
    for name, planned in names.items():
        kind = schema.field(planned).type
        if name in table.column_names:
            column = _cast(name, table[name], kind)
            table = table.set_column(table.column_names.index(name), name, column)
        for value in _default_values(plan, name):
            _check_default(name, value, kind)
    return table


def _cast(name: str, values: Any, kind: pa.DataType) -> Any:
    try:
        typed = values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        reason = str(error).split("\n", 1)[0]
        raise UsageError(
            f"column {name!r} is {values.type}, and the plan needs {kind}: {reason}"
        ) from error
    if name == "seed" and (least := pc.min(typed).as_py() or 0) < 0:
        raise UsageError(f"column 'seed' holds {least}: seeds are from 0 to 2**63 - 1")
    return typed


def _check_default(name: str, value: Any, kind: pa.DataType) -> None:
    is_seed = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    if name == "seed" and not is_seed:
        raise UsageError(f"row.seed = {value!r}: a whole number from 0 to 2**63 - 1")
    try:
        pa.array([value], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise UsageError(f"row.{name} = {value!r}: the plan needs {kind}") from error


def _default_values(plan: Plan, name: str) -> list[Any]:
    values = [edit[name] for edit in plan.row.get("edits", []) if name in edit]
    return [*values, plan.row[name]] if name in plan.row else values


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
        self.draws = any(c.SEED.name in stage.read_names for stage in plan.stages)


class _Expander:
    """Expansion of input rows to planned rows: defaults, edits, candidates, keys, seeds."""

    def __init__(self, plan: Plan, names: list[str]) -> None:
        self._candidates: int = plan.row.get("candidates", 1)
        self._edits: list[dict[str, Any]] = plan.row.get("edits", [{}])
        self._defaults = {k: v for k, v in plan.row.items() if k not in ROW_CONTROLS}
        self._forms = PerChoice(plan, _Form)
        self._names = plan.planned_column_names(names)
        # 64 bits of each key: enough to tell the rows of one run apart, and 60 bytes a row.
        self._seen: set[int] = set()

    @property
    def rows_per_input_row(self) -> int:
        """The number of planned rows that one input row becomes."""
        return self._candidates * len(self._edits)

    def rows(self, table: pa.Table) -> tuple[dict[str, list[Any]], int]:
        """Returns the planned rows of a slice of the input, by column, and the number left out."""
        planned: dict[str, list[Any]] = {column.name: [] for column in _FIRST}
        planned |= {name: [] for name in self._names.values()}
        num_duplicates = 0
        for input_row in table.to_pylist():
            for edit, candidate in product(self._edits, range(self._candidates)):
                defaults = {**self._defaults, **edit}
                row = self._renamed({**defaults, **_present(input_row, defaults)})
                form = self._form(row)
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
