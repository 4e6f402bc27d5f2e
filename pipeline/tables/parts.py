"""Tables in parts: files with the same columns, read one after another and batch by batch.

Memory holds a few batches, however many rows there are. What is derived of a part, such as other
names or columns that its path gives, is derived batch by batch too.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from overpaint.pipeline.errors import UsageError

ROWS_AT_ONCE = 65_536
"""Rows of a batch at most."""
Read = Callable[[Sequence[str]], Iterator[pa.Table]]
"""Function that yields some columns of a part, at least one, batch by batch and in order."""


@dataclass(frozen=True, slots=True)
class TablePart:
    """Part of a table: usually one file.

    Attributes:
        path: path of the file, relative to the input; as the user gave it where it is the input.
        schema: columns that can be read.
        read: yields columns by their names.
        num_rows: rows of the part; None where they are known only once they are read.
        lines: line of the file in which each row begins, from 1; None for no such file.
    """

    path: str
    schema: pa.Schema
    read: Read
    num_rows: int | None = None
    lines: "array[int] | None" = None

    def renamed(self, names: Mapping[str, str]) -> "TablePart":
        """Returns the part with columns under new names, by their old ones."""
        olds = {names.get(name, name): name for name in self.schema.names}

        def read(wanted: Sequence[str]) -> Iterator[pa.Table]:
            for table in self.read([olds[name] for name in wanted]):
                yield table.rename_columns(list(wanted))

        fields = [field.with_name(names.get(field.name, field.name)) for field in self.schema]
        return replace(self, schema=pa.schema(fields), read=read)

    def selected(self, names: Sequence[str]) -> "TablePart":
        """Returns the part with some of its columns."""
        return replace(self, schema=pa.schema([self.schema.field(name) for name in names]))

    def with_constants(self, values: Mapping[str, str | None]) -> "TablePart":
        """Returns the part with more columns, of texts that are equal in all of its rows.

        A column of that name in the file itself stays as it is there.
        """
        new = {name: value for name, value in values.items() if name not in self.schema.names}
        if not new:
            return self

        def read(wanted: Sequence[str]) -> Iterator[pa.Table]:
            in_file = [name for name in wanted if name not in new] or self.schema.names[:1]
            for table in self.read(in_file):
                for name, value in new.items():
                    column = pa.repeat(pa.scalar(value, pa.string()), table.num_rows)
                    table = table.append_column(name, column)
                yield table.select(list(wanted))

        fields = [*self.schema, *(pa.field(name, pa.string()) for name in new)]
        return replace(self, schema=pa.schema(fields), read=read)


def part_of_table(path: str, table: pa.Table, lines: "array[int] | None" = None) -> TablePart:
    """Returns a table in memory as a part."""

    def read(names: Sequence[str]) -> Iterator[pa.Table]:
        columns = table.select(list(names))
        for start in range(0, table.num_rows, ROWS_AT_ONCE):
            yield columns.slice(start, ROWS_AT_ONCE)

    return TablePart(path, table.schema, read, table.num_rows, lines)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of a table that are at hand.

    Attributes:
        table: the rows.
        part: part that holds them.
        start: place of the first of them in the part, from 0.
        is_only: whether the table has no other part.
    """

    table: pa.Table
    part: TablePart
    start: int
    is_only: bool

    def place(self, row: int) -> str:
        """Returns the place of a row of the batch, from 0, as users find it."""
        lines = self.part.lines
        row += self.start
        place = f"row {row + 1}" if lines is None else f"line {lines[row]}"
        return place if self.is_only else f"{place} of {self.part.path}"


@dataclass(frozen=True, slots=True)
class TableStream:
    """Rows of a table in parts.

    Attributes:
        schema: columns that all parts have, in types that hold the values of all.
        parts: parts of the table, in order.
        limit: rows to take from the front; None for all.
    """

    schema: pa.Schema
    parts: tuple[TablePart, ...]
    limit: int | None = None

    def batches(self, names: Sequence[str] | None = None) -> Iterator[Batch]:
        """Yields the rows in order, batch by batch.

        Args:
            names: names of the columns to read, at least one; None for all.
        """
        schema = self.schema
        if names is not None:
            schema = pa.schema([schema.field(name) for name in names])
        left = self.limit
        for part in self.parts:
            start = 0
            for table in _read(part, schema):
                table = table if left is None else table.slice(0, left)
                left = None if left is None else left - table.num_rows
                if table.num_rows:
                    yield Batch(table, part, start, len(self.parts) == 1)
                if left == 0:
                    return
                start += table.num_rows

    def table(self) -> pa.Table:
        """Returns all rows as one table in memory."""
        tables = [batch.table for batch in self.batches()]
        return pa.concat_tables(tables) if tables else self.schema.empty_table()


def _read(part: TablePart, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yields columns of a part in the types of a schema; a column that it lacks is null."""
    there = [name for name in schema.names if name in part.schema.names]
    for table in part.read(there or part.schema.names[:1]):
        missing = [name for name in schema.names if name not in there]
        for name in missing:
            table = table.append_column(name, pa.nulls(table.num_rows, schema.field(name).type))
        table = table.select(schema.names)
        yield table if table.schema == schema else table.cast(schema)


def joined(parts: Sequence[TablePart], *, may_lack: bool = False) -> TableStream:
    """Joins parts to a table.

    Args:
        parts: at least one part.
        may_lack: whether a part may lack columns that others have; they are null there.

    Raises:
        UsageError: parts have different columns, or columns of different types.
    """
    first = parts[0]
    for part in parts:
        if not may_lack and set(part.schema.names) != set(first.schema.names):
            raise UsageError(
                f"its files have different columns: {first.schema.names} in {first.path}, and "
                f"{part.schema.names} in {part.path}"
            )
    schema = first.schema
    for part in parts[1:]:
        if part.schema != schema:
            schema = _unified(schema, part)
    return TableStream(schema.remove_metadata(), tuple(parts))


def _unified(schema: pa.Schema, part: TablePart) -> pa.Schema:
    try:
        return pa.unify_schemas([schema, part.schema], promote_options="permissive")
    except pa.ArrowTypeError as error:
        raise UsageError(
            f"its files have columns of different types: {part.path}: {error}"
        ) from error
