"""Arrow files, as `save_to_disk` of datasets writes them: read by an index of their batches.

A stream has no table of contents: the heads of its messages are read once, and its batches, of
some dozens of pictures each, by their places. Numbers are as in Arrow's format of messages.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import IO, Any

import pyarrow as pa
from overpaint.pipeline.storage.parquet import check_not_pickled
from overpaint.pipeline.storage.store import open_uri, read_range, size_bytes
from overpaint.pipeline.storage.uris import is_local, local_path
from overpaint.pipeline.tables.parquet import plain_schema
from overpaint.pipeline.tables.parts import TablePart
from overpaint.pipeline.tables.texts import check_names

_MAGIC = b"ARROW1"
_START_OF_FILE = 8
_CONTINUES = 0xFFFF_FFFF
_SCHEMA, _RECORD_BATCH = 1, 3
_HEADER_TYPE, _HEADER, _BODY_BYTES = 1, 2, 3
_BLOCK_BYTES = 2**16
_MAX_HEAD_BYTES = 2**26


@dataclass(frozen=True, slots=True)
class ArrowIndex:
    """Places of the batches in an Arrow file.

    Attributes:
        schema: schema as it is in the file.
        spans: first byte of each batch, and the byte after it.
        starts: row at which each batch starts, and at the end the number of rows.
    """

    schema: pa.Schema
    spans: tuple[tuple[int, int], ...]
    starts: tuple[int, ...]

    @property
    def num_rows(self) -> int:
        """The number of rows of the file."""
        return self.starts[-1]


def arrow_part(uri: str, path: str) -> TablePart:
    """Returns an Arrow file as a part of a table, by the heads of its messages.

    Args:
        uri: URI of the file, in the format of streams or of files.
        path: its path relative to the input.

    Raises:
        UsageError: two columns have one name.
        pyarrow.ArrowException: the file is not Arrow, or it is cut off.
    """
    index = arrow_index(uri)
    check_names(index.schema.names, "")
    plain = plain_schema(index.schema)

    def read(names: Sequence[str]) -> Iterator[pa.Table]:
        kinds = pa.schema([plain.field(name) for name in names])
        for span in index.spans:
            table = read_batch(uri, index, span).select(list(names))
            yield table.cast(kinds) if table.schema != kinds else table

    return TablePart(path, plain, read, index.num_rows)


def arrow_index(uri: str) -> ArrowIndex:
    """Reads the heads of the messages of an Arrow file.

    Raises:
        pyarrow.ArrowInvalid: the file is not Arrow, it is cut off, or a column would be unpickled.
    """
    size = size_bytes(uri)
    schema: pa.Schema | None = None
    spans, counts = list[tuple[int, int]](), list[int]()
    with open_uri(uri, _BLOCK_BYTES) as file:
        for message in _messages(file, size):
            if message.kind == _SCHEMA:
                check_not_pickled(message.head)
                schema = pa.ipc.read_schema(pa.py_buffer(message.head))
            elif message.kind == _RECORD_BATCH:
                spans.append((message.start, message.stop))
                counts.append(message.num_rows)
            else:
                raise pa.ArrowInvalid("it has dictionaries: save it as Parquet")
    if schema is None:
        raise pa.ArrowInvalid("it has no schema")
    return ArrowIndex(schema, tuple(spans), (0, *accumulate(counts)))


def read_batch(uri: str, index: ArrowIndex, span: tuple[int, int]) -> pa.Table:
    """Reads one batch of an Arrow file; of a local one, only the columns that are looked at."""
    if is_local(uri):
        with pa.memory_map(str(local_path(uri))) as source:
            source.seek(span[0])
            return _decoded(source, index.schema)
    return _decoded(pa.BufferReader(read_range(uri, *span)), index.schema)


def _decoded(source: Any, schema: pa.Schema) -> pa.Table:
    batch = pa.ipc.read_record_batch(pa.ipc.read_message(source), schema)
    return pa.Table.from_batches([batch])


@dataclass(frozen=True, slots=True)
class _Message:
    """Head of a message.

    Attributes:
        kind: kind of the message.
        start: its first byte in the file.
        stop: the byte after its body.
        num_rows: rows of a batch.
        head: bytes of the message up to its body.
    """

    kind: int
    start: int
    stop: int
    num_rows: int
    head: bytes


def _messages(file: IO[bytes], size: int) -> Iterator[_Message]:
    """Yields the heads of the messages of a file of `size` bytes, up to its mark of the end."""
    place = _START_OF_FILE if file.read(len(_MAGIC)) == _MAGIC else 0
    while True:
        file.seek(place)
        prefix = file.read(8)
        if len(prefix) < 8:
            raise pa.ArrowInvalid("it is cut off: it has no mark of its end")
        mark, length = struct.unpack("<Ii", prefix)
        if mark != _CONTINUES or not 0 <= length <= _MAX_HEAD_BYTES:
            raise pa.ArrowInvalid("it is not an Arrow file")
        if length == 0:
            return
        message = _message(place, prefix + file.read(length))
        if message.stop > size:
            raise pa.ArrowInvalid("it is cut off within its rows")
        yield message
        place = message.stop


def _message(start: int, head: bytes) -> _Message:
    try:
        table = _FlatTable(head, 8 + struct.unpack_from("<I", head, 8)[0])
        kind, body_bytes = table.number(_HEADER_TYPE, "<B"), table.number(_BODY_BYTES, "<q")
        num_rows = table.inner(_HEADER).number(0, "<q") if kind == _RECORD_BATCH else 0
    except struct.error as error:
        raise pa.ArrowInvalid("it is cut off, or not an Arrow file") from error
    if body_bytes < 0 or num_rows < 0:
        raise pa.ArrowInvalid("it is not an Arrow file")
    return _Message(kind, start, start + len(head) + body_bytes, num_rows, head)


@dataclass(frozen=True, slots=True)
class _FlatTable:
    """Table of a FlatBuffer: its fields are found by a table of offsets.

    Attributes:
        data: bytes of the buffer.
        place: place of the table in them.
    """

    data: bytes
    place: int

    def _field(self, field: int) -> int | None:
        offsets = self.place - struct.unpack_from("<i", self.data, self.place)[0]
        if 4 + 2 * field >= struct.unpack_from("<H", self.data, offsets)[0]:
            return None
        offset = struct.unpack_from("<H", self.data, offsets + 4 + 2 * field)[0]
        return self.place + offset if offset else None

    def number(self, field: int, form: str) -> int:
        """Returns a number; 0 where it is left out."""
        place = self._field(field)
        return 0 if place is None else struct.unpack_from(form, self.data, place)[0]

    def inner(self, field: int) -> "_FlatTable":
        """Returns the table that a field leads to."""
        place = self._field(field)
        if place is None:
            raise struct.error("a table is missing")
        return _FlatTable(self.data, place + struct.unpack_from("<I", self.data, place)[0])
