"""Expansion of input rows to planned rows: defaults, edits, candidates, keys, groups and seeds.

Columns stay in Arrow; only the values that make keys become Python's, so that a plan of millions of
rows takes minutes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from overpaint.pipeline import columns as c
from overpaint.pipeline.choices import PerChoice
from overpaint.pipeline.errors import RowError, UsageError
from overpaint.pipeline.identity import RowIdentity, encoded_value, group_id, row_seeds
from overpaint.pipeline.operator import Operator
from overpaint.pipeline.plan import ROW_CONTROLS, Plan
from overpaint.pipeline.plan_checks import draws

_SOURCE, _SEED = c.SOURCE_URI.name, c.SEED.name


class KeyForm:
    """Form of a plan that rows choose: what makes their keys, and whether candidates differ.

    Args:
        plan: plan whose stages are those of the rows' choice.
    """

    def __init__(self, plan: Plan) -> None:
        self.columns = plan.key_columns()
        self.identity = RowIdentity(plan.fingerprint(), self.columns)
        self.draws = draws(plan.stages)


class _EditedRows:
    """Rows of the input with the defaults of one edit, under the names of the plan.

    Args:
        table: rows of the input.
        defaults: values for columns that are absent or have no value, by name.
        names: the plan's names of the columns, by their own.
        schema: columns of the plan.
    """

    def __init__(
        self,
        table: pa.Table,
        defaults: Mapping[str, Any],
        names: Mapping[str, str],
        schema: pa.Schema,
    ) -> None:
        self._table = table
        self._defaults = defaults
        self._olds = {planned: name for name, planned in names.items()}
        self._schema = schema
        self._lists: dict[str, list[Any]] = {}
        self._texts: dict[tuple[str, ...], list[str]] = {}

    def values(self, planned: str) -> list[Any]:
        """Returns the values of a column; a default serves where there is none, or blanks."""
        if planned not in self._lists:
            self._lists[planned] = self._values(self._olds.get(planned, planned))
        return self._lists[planned]

    def _values(self, name: str) -> list[Any]:
        default = self._defaults.get(name)
        if name not in self._table.column_names:
            return [default] * self._table.num_rows
        values = self._table[name].to_pylist()
        if name not in self._defaults:
            return values
        return [default if c.is_missing(value) else value for value in values]

    def column(self, planned: str) -> Any:
        """Returns a column in the type that it has in the plan."""
        name, kind = self._olds.get(planned, planned), self._schema.field(planned).type
        if name in self._defaults:
            return pa.chunked_array([pa.array(self.values(planned), kind)])
        if name in self._table.column_names:
            return self._table[name].cast(kind)
        return pa.chunked_array([pa.nulls(self._table.num_rows, kind)])

    def row(self, place: int) -> dict[str, Any]:
        """Returns a row under the plan's names, without the columns that have no value."""
        row = {name: self.values(name)[place] for name in (*self._olds, _SOURCE, _SEED)}
        return {name: value for name, value in row.items() if value is not None}

    def key_texts(self, columns: tuple[str, ...]) -> list[str]:
        """Returns what each row has for its key after its source and candidate, as JSON."""
        if columns not in self._texts:
            encoded = [map(encoded_value, self.values(name)) for name in columns]
            texts = [", ".join(("", *values)) for values in zip(*encoded, strict=True)]
            texts = texts or [""] * self._table.num_rows
            seeds = self.values(_SEED)
            if any(seed is not None for seed in seeds):
                texts = [text + _seed_text(seed) for text, seed in zip(texts, seeds, strict=True)]
            self._texts[columns] = texts
        return self._texts[columns]


def _seed_text(seed: int | None) -> str:
    return "" if seed is None else f", {encoded_value({_SEED: seed})}"


@dataclass(slots=True)
class _Made:
    """Planned rows that have been made, column by column.

    Attributes:
        keys: their keys.
        groups: their groups.
        candidates: their candidates.
        places: row of the input of each, counted on from one edit to the next.
        seeds: seeds that the input gives; None for one that is made of the key.
        num_duplicates: identical rows that were left out.
    """

    keys: list[str] = field(default_factory=list[str])
    groups: list[str] = field(default_factory=list[str])
    candidates: list[int] = field(default_factory=list[int])
    places: list[int] = field(default_factory=list[int])
    seeds: list[int | None] = field(default_factory=list[int | None])
    num_duplicates: int = 0

    def columns(self) -> dict[str, Any]:
        """Returns the columns that planning makes, in Arrow."""
        seeds: Any = row_seeds(self.keys)
        if any(seed is not None for seed in self.seeds):
            # Several candidates with one seed would be one picture several times.
            given = zip(self.seeds, self.candidates, seeds.tolist(), strict=True)
            seeds = [own if s is None else (s + n) % 2**63 for s, n, own in given]
        return {
            c.KEY.name: pa.array(self.keys, pa.string()),
            c.GROUP_ID.name: pa.array(self.groups, pa.string()),
            c.CANDIDATE.name: pa.array(self.candidates, pa.int32()),
            _SEED: pa.array(seeds, pa.int64()),
        }


class Expander:
    """Expansion of the rows of one plan; rows of one source come one after another.

    Args:
        plan: plan of the rows.
        names: names of the input's columns.
        schema: columns of the plan.
    """

    def __init__(self, plan: Plan, names: Sequence[str], schema: pa.Schema) -> None:
        self._candidates: int = plan.row.get("candidates", 1)
        self._edits: list[dict[str, Any]] = plan.row.get("edits", [{}])
        self._defaults = {k: v for k, v in plan.row.items() if k not in ROW_CONTROLS}
        self._forms = PerChoice(plan, KeyForm)
        self._has_choices = any(stage.operator.choice_columns for stage in plan.stages)
        self._checking = [
            stage
            for stage in plan.stages
            if type(stage.operator).check_row is not Operator.check_row
        ]
        self._names = plan.planned_column_names(list(names))
        self._schema = schema
        # A key holds its source, so rows with equal keys are of one source, which stand together.
        self._source, self._group = "", ""
        self._seen: set[str] = set()

    @property
    def rows_per_input_row(self) -> int:
        """The number of planned rows that one input row becomes."""
        return self._candidates * len(self._edits)

    def planned(self, table: pa.Table) -> tuple[pa.Table, int]:
        """Returns the planned rows of a slice of the input, and the number of rows left out."""
        edited = [
            _EditedRows(table, {**self._defaults, **edit}, self._names, self._schema)
            for edit in self._edits
        ]
        made = self._made(edited, table.num_rows)
        columns = made.columns()
        order = None
        if made.places != list(range(table.num_rows * len(edited))):
            order = pa.array(made.places, pa.int64())
        for name in (_SOURCE, *self._names.values()):
            column = pa.chunked_array(
                [chunk for rows in edited for chunk in rows.column(name).chunks],
                self._schema.field(name).type,
            )
            columns[name] = column if order is None else column.take(order)
        arrays = [columns[name] for name in self._schema.names]
        return pa.Table.from_arrays(arrays, schema=self._schema), made.num_duplicates

    def _made(self, edited: Sequence[_EditedRows], num_rows: int) -> _Made:
        made = _Made()
        form = None if self._has_choices or not num_rows else self._form(edited[0].row(0))
        for place, source in enumerate(edited[0].values(_SOURCE)):
            if source != self._source or not self._group:
                self._source, self._group, self._seen = source, group_id(source), set()
            for number, rows in enumerate(edited):
                if self._has_choices or self._checking:
                    row = rows.row(place)
                    form = self._form(row)
                    self._check(row)
                assert form is not None
                self._add(made, form, rows, place, number * num_rows)
        return made

    def _add(self, made: _Made, form: KeyForm, rows: _EditedRows, place: int, start: int) -> None:
        """Adds the candidates of a row, but for those that are there already."""
        source = encoded_value(self._source)
        text, seed = rows.key_texts(form.columns)[place], rows.values(_SEED)[place]
        for candidate in range(self._candidates if form.draws else 1):
            key = form.identity.key_of_json(f"[{source}, {candidate}{text}]")
            if key in self._seen:
                made.num_duplicates += 1
                continue
            self._seen.add(key)
            made.keys.append(key)
            made.groups.append(self._group)
            made.candidates.append(candidate)
            made.places.append(start + place)
            made.seeds.append(seed)

    def _form(self, row: dict[str, Any]) -> KeyForm:
        try:
            return self._forms.of(row)
        except RowError as error:
            raise UsageError(f"{row[_SOURCE]}: {error}") from error

    def _check(self, row: dict[str, Any]) -> None:
        for stage in self._checking:
            try:
                stage.operator.check_row(stage.to_operator(row))
            except ValueError as error:
                where = f"{row[_SOURCE]}: stage {stage.name!r}"
                raise UsageError(f"{where}: {error}") from error
