"""Text files: their encoding, their lines, and the place of an error in them."""

import codecs
import io
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from overpaint.pipeline.errors import UsageError

BATCH_ROWS = 16_384
"""Rows that are made columns at once: Python objects of all rows would not fit into memory."""

# The marks of UTF-32 begin with those of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LINE_END = re.compile("\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class ReadTable:
    """A table as it is in its files.

    Attributes:
        table: rows, under the names of the files.
        lines: line of the file in which each row begins, from 1; None for files without lines.
    """

    table: pa.Table
    lines: "array[int] | None" = None


def text_lines(data: bytes, newline: str | None) -> Iterator[str]:
    """Yields the lines of a text file, each with its end.

    Args:
        data: UTF-8, or UTF-16 or UTF-32 with a byte order mark.
        newline: as `open` takes it.

    Raises:
        UsageError: the text is in another encoding; names the line.
    """
    encoding = _encoding(data)
    try:
        yield from io.TextIOWrapper(io.BytesIO(data), encoding=encoding, newline=newline)
    except UnicodeDecodeError as error:
        raise UsageError(_wrong_byte(data, encoding)) from error


def check_names(names: list[str], where: str) -> None:
    """Checks that the columns of a table have different names.

    Raises:
        UsageError: naming the places of two columns with one name.
    """
    first: dict[str, int] = {}
    for place, name in enumerate(names, 1):
        if name in first:
            raise UsageError(
                f"{where}columns {first[name]} and {place} are both named {name!r}: rename one of "
                "them in the table"
            )
        first[name] = place


def _encoding(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    if len(data) > 1 and (data[0] == 0) != (data[1] == 0):
        raise UsageError("it looks like UTF-16 without a byte order mark: save it as UTF-8")
    return "utf-8"


def _wrong_byte(data: bytes, encoding: str) -> str:
    """Words the first byte that is no text of an encoding; counts lines as editors do."""
    name = encoding.removesuffix("-sig").upper()
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(encoding, errors="replace")
        line = len(_LINE_END.findall(before)) + 1
        return (
            f"line {line} is not {name} text (byte 0x{data[error.start]:02x}): save it as UTF-8, "
            "such as by `iconv -f LATIN1 -t UTF-8`"
        )
    return f"it is not {name} text"
