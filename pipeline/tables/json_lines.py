"""JSONL: a JSON object for each row, whose values are kept as they are written.

A column has the type of its values. Where these have no type in common, such as texts beside
numbers, or integers of more than 64 bits, it is text: texts stay as they are, other values are
their JSON.
"""

import json
import math
import re
from array import array
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import pyarrow as pa
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.tables.texts import BATCH_ROWS, ReadTable, text_lines

_BLANKS = re.compile(r"[ \t\r\n]*")
_MAX_DEPTH = 200
_MISFITS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError)
"""Errors of Arrow where values have no type in common."""


class _NoCommonTypeError(Exception):
    """Columns whose values have no type in common."""

    def __init__(self, names: set[str]) -> None:
        super().__init__(names)
        self.names = names


def read_json_lines(data: bytes) -> ReadTable:
    """Reads the table in the bytes of a JSONL file.

    Args:
        data: whole file.

    Raises:
        UsageError: the file is empty, or a row is not an object of JSON; names its line.
    """
    as_text: set[str] = set()
    while True:
        try:
            return _read(data, as_text)
        except _NoCommonTypeError as error:
            as_text |= error.names


def _read(data: bytes, as_text: set[str]) -> ReadTable:
    columns, lines, batch = _Columns(as_text), array("q"), list[dict[str, Any]]()
    for line, row in _objects(data):
        lines.append(line)
        batch.append(row)
        if len(batch) == BATCH_ROWS:
            columns.add(batch, lines)
            batch.clear()
    columns.add(batch, lines)
    if not lines:
        raise UsageError("it is empty")
    return ReadTable(columns.table(), lines)


class _Columns:
    """Columns of a table that grows by batches of rows.

    Args:
        as_text: names of the columns that are text, whatever their values are.
    """

    def __init__(self, as_text: set[str]) -> None:
        self._as_text = as_text
        self._chunks: dict[str, list[Any]] = {}
        self._sizes: list[int] = []
        self._misfits: set[str] = set()

    def add(self, rows: Sequence[dict[str, Any]], lines: Sequence[int]) -> None:
        """Adds rows, which stand on the last of the lines."""
        for name in dict.fromkeys(name for row in rows for name in row):
            if name not in self._chunks:
                self._chunks[name] = [pa.nulls(size) for size in self._sizes]
        self._sizes.append(len(rows))
        try:
            for name, chunks in self._chunks.items():
                chunks.append(self._array(name, [row.get(name) for row in rows]))
        except UnicodeEncodeError as error:
            place = next(place for place, row in enumerate(rows) if not _is_text(row))
            line = lines[place - len(rows)]
            raise UsageError(f"line {line}: half of a surrogate pair is no text") from error

    def _array(self, name: str, values: list[Any]) -> Any:
        name.encode()
        if name in self._as_text:
            return pa.array([_text(value) for value in values], pa.string())
        try:
            return pa.array(values)
        except _MISFITS:
            self._misfits.add(name)
            return pa.nulls(len(values))

    def table(self) -> pa.Table:
        """Returns the table.

        Raises:
            _NoCommonTypeError: columns have to be text.
        """
        columns: dict[str, Any] = {}
        for name, chunks in self._chunks.items():
            try:
                columns[name] = _joined(chunks)
            except _MISFITS:
                self._misfits.add(name)
        if self._misfits:
            raise _NoCommonTypeError(self._misfits)
        return pa.table(columns)


def _joined(chunks: Sequence[Any]) -> Any:
    """Joins the parts of a column, in the type that all of them have in common."""
    kind: Any = reduce(_common_type, (chunk.type for chunk in chunks))
    if _has_empty_struct(kind):
        raise pa.ArrowInvalid("Parquet has no objects without fields")
    cast = [chunk.cast(kind) for chunk in chunks]
    parts: list[Any] = []
    for chunk in cast:
        parts += chunk.chunks if isinstance(chunk, pa.ChunkedArray) else [chunk]
    return pa.chunked_array(parts, kind)


def _common_type(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    schemas = [pa.schema([("values", kind)]) for kind in (first, second)]
    return pa.unify_schemas(schemas, promote_options="permissive").field("values").type


def _has_empty_struct(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind) and not kind.num_fields:
        return True
    return any(_has_empty_struct(kind.field(place).type) for place in range(kind.num_fields))


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _is_text(row: dict[str, Any]) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _objects(data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields each object with the line that it begins on; it may go on over lines."""
    first, pending = 0, list[str]()
    for number, line in enumerate(text_lines(data, None), 1):
        if not pending:
            first = number
        pending.append(line)
        # An object that goes on can end with a brace alone: others need not be looked at.
        if len(pending) == 1 or line.rstrip().endswith("}"):
            text = "".join(pending)
            rest = yield from _whole(first, text)
            first += text.count("\n") - rest.count("\n")
            pending = [rest] if rest else []
    if pending:
        rest = yield from _whole(first, "".join(pending))
        if rest:
            raise UsageError(f"line {first}: an object that begins there is not closed")


def _whole(first: int, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the whole objects of a text with the line that each is on; returns what is left."""
    place = _after_blanks(text, 0)
    while place < len(text):
        line = first + text.count("\n", 0, place)
        if text[place] != "{":
            raise UsageError(f"line {line}: {_OTHERS.get(text[place], 'not an object of JSON')}")
        try:
            value, end = _decode(text, place)
        except json.JSONDecodeError as error:
            if error.pos >= len(text.rstrip()):
                return text[place:]
            where = f"line {first + error.lineno - 1}, character {error.colno}"
            raise UsageError(f"{where}: not JSON: {error.msg}") from error
        except (ValueError, RecursionError) as error:
            raise UsageError(f"line {line}: {error}") from error
        yield line, value
        place = _after_blanks(text, end)
    return ""


_OTHERS = {
    "[": "a list, where JSONL has one object a line: `jq -c '.[]'` makes lines of a list",
    '"': "a text, where JSONL has one object a line",
}
"""Values that are no rows, by the character that they begin with."""


def _after_blanks(text: str, place: int) -> int:
    match = _BLANKS.match(text, place)
    return match.end() if match else place


def _decode(text: str, place: int) -> tuple[dict[str, Any], int]:
    value, end = _DECODER.raw_decode(text, place)
    # Arrow goes down values by recursion in C, which ends the process where they are too deep.
    if text.count("[", place, end) + text.count("{", place, end) > _MAX_DEPTH:
        _check_depth(value)
    return value, end


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        if (depth := depth + 1) > _MAX_DEPTH:
            raise ValueError("values are nested too deeply")
        inner = [v.values() if isinstance(v, dict) else v for v in level]
        level = [v for values in inner for v in values if isinstance(v, dict | list)]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has two values that are named {twice!r}")
    return values


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text} is too large")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float)
