"""Types of a plan's columns: those that stages declare, and the input's own for all others."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from overpaint.pipeline import columns as c
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.inputs import Input
from overpaint.pipeline.tables.parts import Batch

FIRST = (c.KEY, c.GROUP_ID, c.CANDIDATE, c.SEED, c.SOURCE_URI)
"""The columns that every plan has, in order; the input's come after them."""
_MAX_SHOWN = 80
_MISFITS = (pa.ArrowInvalid, pa.ArrowNotImplementedError)


def plan_schema(plan: Plan, input_schema: pa.Schema) -> pa.Schema:
    """Returns the columns of a plan: identity first, then the input's, under the plan's names.

    A column that a stage reads has the type that the stage declares.
    """
    read = (column for stage in plan.stages for column in (*stage.inputs, *stage.optional))
    declared = {column.name: column.type for column in (*read, *c.INPUT)}
    fields = [pa.field(column.name, column.type) for column in FIRST]
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


class TypedColumns:
    """Columns of an input in the types of a plan; a value that does not fit is refused.

    Args:
        plan: plan whose defaults are checked too.
        input_schema: columns of the input.
        schema: columns of the plan.

    Raises:
        UsageError: a default does not fit.
    """

    def __init__(self, plan: Plan, input_schema: pa.Schema, schema: pa.Schema) -> None:
        names = {**plan.planned_column_names(input_schema.names), "seed": "seed"}
        self._kinds = {name: schema.field(planned).type for name, planned in names.items()}
        self._cast = [
            name
            for name in input_schema.names
            if name in self._kinds
            and (name == "seed" or input_schema.field(name).type != self._kinds[name])
        ]
        for name, kind in self._kinds.items():
            for value in _default_values(plan, name):
                _check_default(name, value, kind)

    def check(self, run_input: Input) -> None:
        """Checks the values of all rows of an input, before anything is made of them.

        Raises:
            UsageError: naming the column, the row and its value.
        """
        if self._cast:
            for batch in run_input.stream.batches(self._cast):
                self.of(batch)

    def of(self, batch: Batch) -> pa.Table:
        """Returns the rows of a batch in the types of the plan.

        Raises:
            UsageError: naming the column, the row and its value.
        """
        table = batch.table
        for name in self._cast:
            if name in table.column_names:
                column = _cast(name, table[name], self._kinds[name], batch)
                table = table.set_column(table.column_names.index(name), name, column)
        return table


def _cast(name: str, values: Any, kind: pa.DataType, batch: Batch) -> Any:
    try:
        column = _as_kind(values, kind)
    except _MISFITS as error:
        row = _first_misfit(values, kind)
        raise UsageError(
            f"column {name!r} is {values.type}, and the plan needs {kind}: "
            f"{batch.place(row)}: {_shown(values[row].as_py())}"
        ) from error
    if name == "seed" and (least := pc.min(column).as_py() or 0) < 0:
        row = pc.index(column, least).as_py()
        raise UsageError(
            f"column 'seed' holds {least} ({batch.place(row)}): seeds are from 0 to 2**63 - 1"
        )
    return column


def _as_kind(values: Any, kind: pa.DataType) -> Any:
    """Casts a column; texts of numbers may have blanks around them, and integers a point zero."""
    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    if not is_text or not (pa.types.is_primitive(kind) or pa.types.is_boolean(kind)):
        return values.cast(kind)
    texts = pc.utf8_trim_whitespace(values)
    return _as_integers(texts, kind) if pa.types.is_integer(kind) else texts.cast(kind)


def _as_integers(texts: Any, kind: pa.DataType) -> Any:
    """Casts texts to integers: digits exactly, also with a point zero, and such as 1e5."""
    nothing = pa.scalar(None, texts.type)
    has_exponent = pc.match_substring_regex(texts, "[eE]")
    digits = pc.replace_substring_regex(pc.if_else(has_exponent, nothing, texts), r"\.0*$", "")
    floats = pc.if_else(has_exponent, texts, nothing).cast(pa.float64())
    return pc.coalesce(digits.cast(kind), floats.cast(kind))


def _first_misfit(values: Any, kind: pa.DataType) -> int:
    """Returns the first row whose value has no cast, of a column that has one."""
    fits, rows = 0, len(values)
    while rows - fits > 1:
        middle = (fits + rows) // 2
        try:
            _as_kind(values.slice(0, middle), kind)
            fits = middle
        except _MISFITS:
            rows = middle
    return fits


def _shown(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= _MAX_SHOWN else f"{words[:_MAX_SHOWN]}..."


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
