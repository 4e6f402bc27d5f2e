"""Tables whose columns are read a row group, or a batch, at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from overpaint.pipeline.storage.parquet import open_parquet
from overpaint.pipeline.storage.store import open_uri
from overpaint.pipeline.tables.arrow_files import ArrowIndex, arrow_index, read_batch
from overpaint.pipeline.tables.parquet import BLOCK_BYTES

_CELLS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class CellTable:
    """Table whose columns are read a row group, or a batch, at a time.

    Attributes:
        names: names of the columns.
        starts: row at which each group starts, and at the end the number of rows.
        size_of: returns the bytes of a column in a group, about.
        read: reads a column of a group.
        stream: yields a column of a group, some rows at a time.
    """

    names: frozenset[str]
    starts: Sequence[int]
    size_of: Callable[[int, str], int]
    read: Callable[[int, str], Any]
    stream: Callable[[int, str], Iterator[Any]]


def open_cells(uri: str) -> CellTable:
    """Opens a Parquet or Arrow file.

    Raises:
        pyarrow.ArrowException: the file is not what its ending says, or it is cut off.
        FileNotFoundError: there is no such file.
        PermissionError: it may not be read.
    """
    if uri.lower().endswith(".parquet"):
        return _parquet_cells(uri)
    return _arrow_cells(uri, arrow_index(uri))


def _parquet_cells(uri: str) -> CellTable:
    with open_uri(uri, BLOCK_BYTES) as file:
        parquet = open_parquet(file)
        metadata, names = parquet.metadata, frozenset(parquet.schema_arrow.names)
    counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]

    def stream(group: int, column: str) -> Iterator[Any]:
        with open_uri(uri, BLOCK_BYTES) as file:
            parquet = open_parquet(file, metadata)
            for batch in parquet.iter_batches(_CELLS_AT_ONCE, row_groups=[group], columns=[column]):
                yield batch.column(column)

    def read(group: int, column: str) -> Any:
        return pa.chunked_array(list(stream(group, column)))

    starts = [0, *np.cumsum(counts).tolist()]
    return CellTable(names, starts, lambda g, name: _column_bytes(metadata, g, name), read, stream)


def _column_bytes(metadata: pq.FileMetaData, group: int, column: str) -> int:
    columns = metadata.row_group(group)
    leaves = [columns.column(place) for place in range(columns.num_columns)]
    return sum(
        leaf.total_uncompressed_size
        for leaf in leaves
        if leaf.path_in_schema == column or leaf.path_in_schema.startswith(f"{column}.")
    )


def _arrow_cells(uri: str, index: ArrowIndex) -> CellTable:
    def read(group: int, column: str) -> Any:
        values = read_batch(uri, index, index.spans[group])[column]
        # A local batch is not read but mapped: a copy, as the file may be gone later.
        return pa.chunked_array([pa.concat_arrays(values.chunks)])

    def stream(group: int, column: str) -> Iterator[Any]:
        yield from read_batch(uri, index, index.spans[group])[column].chunks

    def size_of(group: int, column: str) -> int:
        del column
        start, stop = index.spans[group]
        return stop - start

    return CellTable(frozenset(index.schema.names), index.starts, size_of, read, stream)


def values_of(chunks: Iterator[Any], rows: Sequence[int]) -> list[Any]:
    """Returns the values of some rows of a column that does not fit into memory."""
    wanted, found, start = set(rows), dict[int, Any](), 0
    for chunk in chunks:
        for row in range(start, start + len(chunk)):
            if row in wanted:
                found[row] = chunk[row - start].as_py()
        start += len(chunk)
        if len(found) == len(wanted):
            break
    return [found[row] for row in rows]
