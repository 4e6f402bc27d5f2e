"""CSV: every cell is text, and a row that is not whole is refused with its line.

Cells are separated by commas, or by the semicolons or tabs that the header has around the name of
the source's column. An empty cell is no value; the word "null" or "NA" is a word.
"""

import csv
import re
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.tables.texts import BATCH_ROWS, ReadTable, check_names, text_lines

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}

# Cells may be as long as the file; the module's own limit is 128 KiB.
csv.field_size_limit(sys.maxsize)


def read_csv(data: bytes, source: str) -> ReadTable:
    """Reads the table in the bytes of a CSV file; every column is text.

    Args:
        data: whole file.
        source: name of the column of sources.

    Raises:
        UsageError: the file is empty or not text, or has a row that is not whole.
    """
    delimiter = _delimiter(data, source)
    rows = _Rows(data, delimiter)
    names = next(iter(rows), [])
    if not names:
        raise UsageError("it is empty")
    check_names(names, f"line {rows.line}: ")
    check = _RowCheck(names, source, delimiter)
    lines, batch, tables = array("q"), list[list[str]](), list[pa.Table]()
    for cells in rows:
        check(cells, rows)
        lines.append(rows.line)
        batch.append(cells)
        if len(batch) == BATCH_ROWS:
            tables.append(_table(names, batch))
            batch.clear()
    tables.append(_table(names, batch))
    return ReadTable(pa.concat_tables(tables), lines)


def _delimiter(data: bytes, source: str) -> str:
    """Returns what separates the name of the source's column from others in the header."""
    header = next((line for line in text_lines(data, "") if line.strip("\r\n")), "")
    for delimiter in _DELIMITERS:
        if source in next(csv.reader([header], delimiter=delimiter), []):
            return delimiter
    return ","


class _Rows:
    """Rows of a CSV file, and the lines of the file that the row at hand is on.

    Attributes:
        line: number of the row's first line, from 1.
        lines: the row's lines.
    """

    def __init__(self, data: bytes, delimiter: str) -> None:
        self.line = 1
        self.lines: list[str] = []
        self._text = text_lines(data, "")
        self._has_ended = False
        self._rows = self._read(delimiter)

    def __iter__(self) -> Iterator[list[str]]:
        return self._rows

    def _read(self, delimiter: str) -> Iterator[list[str]]:
        for cells in csv.reader(self._taken(), delimiter=delimiter):
            if self._has_ended:
                raise UsageError(f"line {self.line}: a quote in that row is not closed")
            if cells:
                yield cells
            self.line += len(self.lines)
            self.lines.clear()

    def _taken(self) -> Iterator[str]:
        for line in self._text:
            self.lines.append(line)
            yield line
        self._has_ended = True  # asked for more: the row at hand is not complete


class _RowCheck:
    """Check that a row is whole: it has a cell for each column, and its quotes are around cells."""

    def __init__(self, names: Sequence[str], source: str, delimiter: str) -> None:
        self._num_cells = len(names)
        self._place = names.index(source) if source in names else None
        self._delimiter = delimiter
        self._blanks = re.compile(rf'" +(?=[{delimiter}\r\n]|$)')

    def __call__(self, cells: list[str], rows: _Rows) -> None:
        first, *others = rows.lines
        if (others or '"' in first) and not self._is_quoted(rows.lines):
            raise UsageError(
                f"line {rows.line}: a quote in that row is not closed, or closed within a cell: a "
                "quote that belongs to a text is written twice"
            )
        if any(self._is_row(line, cells) for line in others):
            raise UsageError(
                f"line {rows.line}: a quote in that row is not closed: the cell that it opens "
                "holds the rows after it"
            )
        if len(cells) != self._num_cells:
            raise UsageError(
                f"line {rows.line} has {len(cells)} cells and the header {self._num_cells}: cells "
                f"are separated by {_DELIMITERS[self._delimiter]}, and one that holds them is "
                "quoted"
            )

    def _is_quoted(self, lines: Sequence[str]) -> bool:
        """Tells whether quotes open and close cells; blanks after a closing one do no harm."""
        for given in (lines, [self._blanks.sub('"', line) for line in lines]):
            with suppress(csv.Error):
                list(csv.reader(given, delimiter=self._delimiter, strict=True))
                return True
        return False

    def _is_row(self, line: str, cells: list[str]) -> bool:
        """Tells whether a line within a cell is itself a row: its source looks like the others."""
        inner = next(csv.reader([line], delimiter=self._delimiter), [])
        if self._place is None or len(inner) != self._num_cells or len(cells) != self._num_cells:
            return False
        kinds = {_kind(row[self._place]) for row in (cells, inner)}
        return len(kinds) == 1 and "" not in kinds


def _kind(source: str) -> str:
    """Returns the ending of a source, or its scheme; an empty text for neither."""
    return PurePosixPath(source).suffix.lower() or source.rpartition("://")[0]


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return pa.Table.from_arrays([_texts(cells) for cells in columns], names=list(names))


def _texts(cells: Sequence[str]) -> Any:
    texts: Any = pa.array(cells, pa.string())
    is_empty = pc.equal(pc.binary_length(texts), pa.scalar(0))
    return pc.if_else(is_empty, pa.scalar(None, pa.string()), texts)
