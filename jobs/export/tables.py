"""Parquet tables with pictures as the library `datasets` writes and reads them.

A column of pictures is `struct<bytes: binary, path: string>`, in that order, and the schema's
metadata says that they are pictures. Where either is different, `datasets` gives dictionaries, and
says nothing.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from overpaint.jobs.export.destination import Destination

IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
"""The type of a picture's cell."""
SHARD_BYTES = 128 * 2**20
"""Bytes of pictures after which another file is begun."""
ROW_GROUP_BYTES = 32 * 2**20
_ROW_GROUP_ROWS = 1000
FEATURES = b"huggingface"
"""Key of the schema's metadata that holds what `datasets` makes of the columns."""
_VALUES = {"string": "string", "double": "float64"}


def image(name: str) -> "pa.Field[Any]":
    """Returns a column of pictures."""
    return pa.field(name, IMAGE)


def text(name: str) -> "pa.Field[Any]":
    """Returns a column of texts."""
    return pa.field(name, pa.string())


def cell(data: bytes, name: str) -> dict[str, Any]:
    """Returns the cell of a picture.

    Args:
        data: bytes of the file.
        name: name of the file, which leads back to the row.
    """
    return {"bytes": data, "path": name}


def with_features(fields: Sequence["pa.Field[Any]"]) -> pa.Schema:
    """Returns a schema whose metadata tells `datasets` what its columns are."""
    features = {field.name: _feature(field.type) for field in fields}
    metadata: dict[bytes | str, bytes | str] = {
        FEATURES: json.dumps({"info": {"features": features}})
    }
    return pa.schema(fields, metadata=metadata)


def features_of(schema: pa.Schema) -> dict[str, Any] | None:
    """Returns what `datasets` makes of the columns of a schema; None where it says nothing."""
    try:
        return json.loads((schema.metadata or {})[FEATURES])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return None


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if kind == IMAGE:
        return {"_type": "Image"}
    return {"dtype": _VALUES.get(str(kind), str(kind)), "_type": "Value"}


class Shards:
    """Parquet files of one split, of bounded size, in row groups of bounded size.

    Args:
        destination: destination of the files.
        path: path of a file, with `{number:05d}` in it.
        schema: columns.
    """

    def __init__(self, destination: Destination, path: str, schema: pa.Schema) -> None:
        self._destination, self._path, self._schema = destination, path, schema
        self._rows: list[Mapping[str, Any]] = []
        self._group_bytes = self._shard_bytes = self._number = 0
        self._file = destination.scratch_file()
        self._writer: pq.ParquetWriter | None = None

    def add(self, row: Mapping[str, Any], num_bytes: int) -> None:
        """Adds a row.

        Args:
            row: value of each column.
            num_bytes: size of the row's pictures.
        """
        self._rows.append(row)
        self._group_bytes += num_bytes
        if self._group_bytes >= ROW_GROUP_BYTES or len(self._rows) >= _ROW_GROUP_ROWS:
            self._write_group()
            if self._shard_bytes >= SHARD_BYTES:
                self._finish()

    def close(self) -> None:
        """Writes the last file to its place."""
        self._write_group()
        self._finish()

    def _write_group(self) -> None:
        if not self._rows:
            return
        writer = self._writer or pq.ParquetWriter(self._file, self._schema, compression="zstd")
        writer.write_table(pa.Table.from_pylist(list(self._rows), self._schema))
        self._writer = writer
        self._shard_bytes += self._group_bytes
        self._rows, self._group_bytes = [], 0

    def _finish(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._destination.take(self._file, self._path.format(number=self._number))
        self._file = self._destination.scratch_file()
        self._writer, self._shard_bytes = None, 0
        self._number += 1
