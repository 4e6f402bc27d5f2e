"""Pictures in the columns of a table: each becomes the address at which it lies.

A column holds pictures as bytes, as `bytes` and `path` (as datasets of the hub have them), or as
lists of either. Each picture of a list is a source of its own, beside the other values of its row;
an empty list keeps its row, which then has the address of nothing.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from overpaint.pipeline.storage.packed import CellAddress
from overpaint.pipeline.tables.parts import ROWS_AT_ONCE, TablePart


def _none(columns: Collection[str]) -> set[str]:
    del columns
    return set()


@dataclass(frozen=True, slots=True)
class PictureFile:
    """Part of a table whose columns may hold pictures.

    Attributes:
        part: the part, with all of its columns.
        values: yields the values of a column of pictures batch by batch, maybe without their
            bytes; None for a part that holds no bytes.
        paths_alone: returns those of some columns that have paths, and bytes in no row.
    """

    part: TablePart
    values: Callable[[str], Iterator[Any]] | None = None
    paths_alone: Callable[[Collection[str]], set[str]] = _none

    def column(self, name: str) -> Iterator[Any]:
        """Yields the values of a column of pictures batch by batch, maybe without their bytes."""
        return iter(()) if self.values is None else self.values(name)


def is_picture(kind: Any) -> bool:
    """Tells whether a type is that of one picture: bytes, or `bytes` with a `path`."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and is_picture(kind.field("bytes").type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def is_picture_list(kind: Any) -> bool:
    """Tells whether a type is that of a list of pictures."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return (is_list or pa.types.is_fixed_size_list(kind)) and is_picture(kind.value_type)


def with_addresses(file: PictureFile, columns: Mapping[str, str], source: str | None) -> TablePart:
    """Returns a part whose columns of pictures hold addresses in their place.

    Args:
        file: the part, and its pictures.
        columns: names of the columns of addresses, by those of the columns of pictures.
        source: column of pictures whose lists make a row of each picture; None for none.
    """
    olds = {new: old for old, new in columns.items()}
    kinds = {old: file.part.schema.field(old).type for old in columns}
    structs = [old for old, kind in kinds.items() if pa.types.is_struct(kind)]
    addresses = _Addresses(file, kinds, file.paths_alone(structs) if structs else set())
    rest = [field for field in file.part.schema if field.name not in columns]

    def read(names: Sequence[str]) -> Iterator[pa.Table]:
        wanted = {new: olds[new] for new in names if new in olds}
        plain = [name for name in names if name not in olds]
        lengths = addresses.lengths(source) if source and is_picture_list(kinds[source]) else None
        start = 0
        for table, num_rows in _rows(file.part, plain):
            rows = np.arange(start, start + num_rows)
            items = None
            if lengths is not None:
                parents, items = _exploded(lengths[start : start + num_rows])
                taken: Any = pa.array(parents)
                rows, table = rows[parents], table.take(taken)
            for new, old in wanted.items():
                column = addresses.of(old, rows, items if old == source else None)
                table = table.append_column(new, column)
            yield table.select(list(names))
            start += num_rows

    def kind_of(old: str) -> pa.DataType:
        is_one = old == source or not is_picture_list(kinds[old])
        return pa.string() if is_one else pa.list_(pa.string())

    fields = [*rest, *(pa.field(new, kind_of(old)) for new, old in olds.items())]
    return replace(file.part, schema=pa.schema(fields), read=read, num_rows=None)


def _rows(part: TablePart, names: Sequence[str]) -> Iterator[tuple[pa.Table, int]]:
    """Yields some columns of a part, or as many rows without any, each with its number of rows."""
    if names:
        yield from ((table, table.num_rows) for table in part.read(names))
        return
    total = part.num_rows or 0
    for start in range(0, total, ROWS_AT_ONCE):
        num_rows = min(ROWS_AT_ONCE, total - start)
        yield pa.table({_NOTHING: pa.nulls(num_rows)}), num_rows


_NOTHING = ""
_ZERO: Any = 0
_join: Any = pc.binary_join_element_wise


def _exploded(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the row of each picture, and its place in the list: -1 where that is empty."""
    counts = np.maximum(lengths, 1)
    parents = np.repeat(np.arange(len(lengths)), counts)
    items = np.arange(len(parents)) - np.repeat(np.cumsum(counts) - counts, counts)
    items[lengths[parents] == 0] = -1
    return parents, items


class _Addresses:
    """Addresses of the pictures of a part.

    Args:
        file: part, and its pictures.
        kinds: types of the columns of pictures, by name.
        by_path: columns whose pictures are files of their own.
    """

    def __init__(self, file: PictureFile, kinds: Mapping[str, Any], by_path: set[str]) -> None:
        self._file = file
        self._kinds = kinds
        self._by_path = by_path
        self._held: dict[str, Any] = {}

    def lengths(self, column: str) -> NDArray[np.int64]:
        """Returns the length of each list of a column; 0 for a null list."""
        arrays = [
            pc.fill_null(pc.list_value_length(values), _ZERO).to_numpy(zero_copy_only=False)
            for values in self._file.column(column)
        ]
        return np.concatenate([np.zeros(0, np.int64), *arrays]).astype(np.int64)

    def of(self, column: str, rows: NDArray[np.int64], items: NDArray[np.int64] | None) -> Any:
        """Returns the addresses of a column of some rows of the file.

        Args:
            column: column of pictures.
            rows: places of the rows in the file.
            items: places in the lists, -1 for none; None for addresses of whole cells.
        """
        if column in self._by_path:
            return self._all(column, self._paths).take(pa.array(rows))
        if items is None and is_picture_list(self._kinds[column]):
            return self._lists(column, rows)
        return self._joined(column, rows, items)

    def _joined(self, column: str, rows: Any, items: Any) -> Any:
        prefix = str(CellAddress(self._file.part.path, column, 0)).removesuffix("0")
        texts = pa.array(rows).cast(pa.string())
        if items is None:
            return _join(prefix, texts, "")
        places = _join("[", pa.array(items).cast(pa.string()), "]", "")
        return _join(prefix, texts, pc.if_else(pa.array(items < 0), "", places), "")

    def _lists(self, column: str, rows: NDArray[np.int64]) -> Any:
        lengths = self._all(column, self.lengths)[rows]
        parents, items = _exploded(lengths)
        parents, items = parents[items >= 0], items[items >= 0]
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        return pa.ListArray.from_arrays(offsets, self._joined(column, rows[parents], items))

    def _paths(self, column: str) -> Any:
        arrays = [pc.struct_field(values, "path") for values in self._file.column(column)]
        return pa.chunked_array(arrays, pa.string())

    def _all(self, column: str, read: Callable[[str], Any]) -> Any:
        if column not in self._held:
            self._held[column] = read(column)
        return self._held[column]
