"""Parquet of an input: the columns that are asked for, batch by batch; pictures stay there."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from overpaint.pipeline.storage.parquet import open_parquet, read_schema
from overpaint.pipeline.storage.retries import retry_transient
from overpaint.pipeline.storage.store import open_uri
from overpaint.pipeline.tables.parts import ROWS_AT_ONCE, TablePart
from overpaint.pipeline.tables.texts import check_names

BLOCK_BYTES = 2**20
"""Bytes that are read ahead of a store's object: columns of pictures beside others are not read."""
_NESTED_ROWS = 64
"""Rows of a batch in which there may be lists of pictures."""


def parquet_part(uri: str, path: str) -> TablePart:
    """Returns a Parquet file as a part of a table, by its footer.

    Args:
        uri: URI of the file.
        path: its path relative to the input.

    Raises:
        UsageError: two columns have one name.
        pyarrow.ArrowException: the file is not Parquet, or a column would be unpickled.
    """
    schema, num_rows = _footer(uri)
    plain = plain_schema(schema)

    def read(names: Sequence[str]) -> Iterator[pa.Table]:
        kinds = pa.schema([plain.field(name) for name in names])
        yield from _batches(uri, kinds)

    return TablePart(path, plain, read, num_rows)


@retry_transient
def _footer(uri: str) -> tuple[pa.Schema, int]:
    try:
        with open_uri(uri, BLOCK_BYTES) as file:
            schema = read_schema(file)
            check_names(schema.names, "")
            return schema, open_parquet(file).metadata.num_rows
    except OSError as error:
        if error.errno is not None:
            raise
        raise pa.ArrowInvalid(str(error)) from error  # Arrow's word for a damaged footer


def _batches(uri: str, kinds: pa.Schema) -> Iterator[pa.Table]:
    size = _NESTED_ROWS if any(holds_bytes(kind.type) for kind in kinds) else ROWS_AT_ONCE
    with open_uri(uri, BLOCK_BYTES) as file:
        parquet = open_parquet(file)
        for batch in parquet.iter_batches(size, columns=kinds.names):
            table = pa.Table.from_batches([batch]).select(kinds.names)
            yield table if table.schema == kinds else table.cast(kinds)


@retry_transient
def paths_alone(uri: str, columns: Collection[str]) -> set[str]:
    """Returns those of some columns of pictures that have paths, and bytes in no row.

    Args:
        uri: URI of the Parquet file.
        columns: names of columns of `bytes` and `path`.
    """
    with open_uri(uri, BLOCK_BYTES) as file:
        metadata = open_parquet(file).metadata
    return {name for name in columns if _num_nulls(metadata, f"{name}.bytes") == metadata.num_rows}


def _num_nulls(metadata: pq.FileMetaData, path: str) -> int:
    """Returns the number of nulls of a column by a file's footer; -1 where it does not tell."""
    total = 0
    for group in (metadata.row_group(place) for place in range(metadata.num_row_groups)):
        columns = [group.column(place) for place in range(group.num_columns)]
        found = [column for column in columns if column.path_in_schema == path]
        statistics: Any = found[0].statistics if found else None
        if statistics is None or not statistics.has_null_count:
            return -1
        total += statistics.null_count
    return total


def values_without_bytes(uri: str, column: str) -> Iterator[Any]:
    """Yields the values of a column of pictures, batch by batch.

    Of pictures with `bytes` and `path`, alone or in lists, the paths alone are read.
    """
    with open_uri(uri, BLOCK_BYTES) as file:
        parquet = open_parquet(file)
        leaves = [path for path in _leaves(parquet) if path.startswith(f"{column}.")]
        paths = [path for path in leaves if path.endswith(".path")]
        size = ROWS_AT_ONCE if paths else _NESTED_ROWS
        for batch in parquet.iter_batches(size, columns=paths[:1] or [column]):
            yield batch.column(column)


def _leaves(parquet: pq.ParquetFile) -> list[str]:
    schema: Any = parquet.schema
    return [schema.column(place).path for place in range(len(schema))]


def holds_bytes(kind: Any) -> bool:
    """Tells whether values of an Arrow type hold bytes that are no text."""
    if pa.types.is_dictionary(kind):
        return holds_bytes(kind.value_type)
    is_bytes = (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or (pa.types.is_fixed_size_binary(kind) and not pa.types.is_decimal(kind))
    )
    return is_bytes or any(holds_bytes(kind.field(i).type) for i in range(kind.num_fields))


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Returns a schema without metadata, and without views, which not every function knows."""
    return pa.schema([pa.field(column.name, _plain(column.type)) for column in schema])


def _plain(kind: Any) -> Any:
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_list_view(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    return kind
