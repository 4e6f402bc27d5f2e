"""Reading of untrusted Parquet: data, and never code.

Arrow gives a column back as the extension type that its file names. Ray's extension types, and an
old one of Arrow's own, unpickle what they find, which runs whatever the writer of the file wished.
"""

import base64
import io
import os
import re
from collections.abc import Iterator, Sequence
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_UNPICKLING = (b"ray.data.", b"arrow.py_extension_type")
_BASE64 = re.compile(rb"[A-Za-z0-9+/=]{32,}")
_BUFFER_BYTES = 2**20
"""Bytes of a column that are read at once: a row group of pictures does not fit into memory."""
_TAIL_BYTES = 8
"""Length of the end of a Parquet file: the footer's length in four bytes, and four letters."""


def read_parquet(
    source: bytes | IO[bytes],
    columns: Sequence[str] | None = None,
    where: pc.Expression | None = None,
) -> pa.Table:
    """Reads the table in a Parquet file.

    Args:
        source: bytes of the whole file, or the file, open.
        columns: names of the columns to read; None for all.
        where: filter over any columns of the file; None for all rows.

    Raises:
        pyarrow.ArrowInvalid: not Parquet, or a column would be unpickled.
    """
    file = _checked(source)
    names = list(columns) if columns is not None else None
    return pq.read_table(file, columns=names, filters=where)


def read_schema(file: IO[bytes]) -> pa.Schema:
    """Reads the names and types of the columns of a Parquet file.

    Raises:
        pyarrow.ArrowInvalid: not Parquet, or a column would be unpickled.
    """
    return pq.read_schema(_checked(file))


def open_parquet(file: IO[bytes], metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """Opens a Parquet file to read its row groups one after another, a page at a time.

    Args:
        file: the file, open.
        metadata: footer of the file, where it has been read; None reads it.

    Raises:
        pyarrow.ArrowInvalid: not Parquet, or a column would be unpickled.
    """
    file = file if metadata is not None else _checked(file)
    return pq.ParquetFile(file, metadata=metadata, buffer_size=_BUFFER_BYTES, pre_buffer=False)


def _checked(source: bytes | IO[bytes]) -> IO[bytes]:
    """Returns a file none of whose columns is unpickled."""
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    # Looked for in the bytes: even to ask pyarrow for the metadata makes the types.
    for schema in _arrow_schemas(_footer(file)):
        check_not_pickled(schema)
    file.seek(0)
    return file


def check_not_pickled(schema: bytes) -> None:
    """Checks that no column of an Arrow schema is of a type whose values would be unpickled.

    Args:
        schema: the schema as Arrow writes it.

    Raises:
        pyarrow.ArrowInvalid: a column is.
    """
    for name in _UNPICKLING:
        if name in schema:
            raise pa.ArrowInvalid(
                f"a column has an extension type ({name.decode()}) whose values are pickled "
                "Python objects, which could run code: write it as a plain type"
            )


def _footer(file: IO[bytes]) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    length = int.from_bytes(file.read(4), "little")
    start = max(0, size - _TAIL_BYTES - length)
    file.seek(start)
    return file.read(max(0, size - _TAIL_BYTES - start))


def _arrow_schemas(footer: bytes) -> Iterator[bytes]:
    """Yields all that may be an Arrow schema: base64, after a length of unknown size."""
    for encoded in _BASE64.findall(footer):
        for start in range(4):
            text = encoded[start:].replace(b"=", b"A")
            yield base64.b64decode(text[: len(text) // 4 * 4])
