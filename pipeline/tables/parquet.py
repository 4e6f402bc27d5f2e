"""Parquet of an input: columns of bytes are left in their file unless they are asked for."""

from collections.abc import Collection, Sequence
from typing import IO, Any

import pyarrow as pa
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.storage.parquet import read_parquet, read_schema
from overpaint.pipeline.storage.retries import retry_transient
from overpaint.pipeline.storage.store import open_uri
from overpaint.pipeline.tables.texts import ReadTable, check_names


def read_parquet_files(uris: Sequence[str], with_bytes: Collection[str]) -> ReadTable:
    """Reads a table that is in one Parquet file, or in several one after another.

    Args:
        uris: URIs of the files.
        with_bytes: names of the columns that are read also if they hold bytes.

    Raises:
        UsageError: the files have different columns, or two of one name.
        pyarrow.ArrowException: a file is not Parquet.
    """
    tables = [_read(uri, with_bytes) for uri in uris]
    first, left_out = tables[0]
    for uri, (table, _) in zip(uris, tables, strict=True):
        if table.column_names != first.column_names:
            raise UsageError(
                f"its files have different columns: {first.column_names} in {uris[0]}, and "
                f"{table.column_names} in {uri}"
            )
    try:
        table = pa.concat_tables([table for table, _ in tables], promote_options="permissive")
    except pa.ArrowTypeError as error:
        raise UsageError(f"its files have columns of different types: {error}") from error
    return ReadTable(table, left_out=left_out)


@retry_transient
def _read(uri: str, with_bytes: Collection[str]) -> tuple[pa.Table, dict[str, pa.DataType]]:
    try:
        with open_uri(uri) as file:
            return _read_file(file, with_bytes)
    except OSError as error:
        if error.errno is not None:
            raise
        raise pa.ArrowInvalid(str(error)) from error  # Arrow's word for a damaged footer


def _read_file(
    file: IO[bytes], with_bytes: Collection[str]
) -> tuple[pa.Table, dict[str, pa.DataType]]:
    schema = read_schema(file)
    check_names(schema.names, "")
    left_out = {
        column.name: column.type
        for column in schema
        if column.name not in with_bytes and _holds_bytes(column.type)
    }
    names = [name for name in schema.names if name not in left_out]
    table = read_parquet(file, names if left_out else None)
    plain = _plain_schema(table.schema)
    return table if plain == table.schema else table.cast(plain), left_out


def _holds_bytes(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    is_bytes = (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or (pa.types.is_fixed_size_binary(kind) and not pa.types.is_decimal(kind))
    )
    return is_bytes or any(_holds_bytes(kind.field(i).type) for i in range(kind.num_fields))


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    """Returns a schema without views, which not every function of Arrow knows."""
    return pa.schema([column.with_type(_plain(column.type)) for column in schema])


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
