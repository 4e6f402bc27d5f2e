"""Reading of sources that are packed with others: members of tars, and cells of tables.

A member is read by its place, which planning has found, or by an index of its tar that is made
once; a cell with the others of its row group or batch, of which the last few are kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from overpaint.operators.recent import Recent
from overpaint.operators.sources.cells import CellTable, open_cells, values_of
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.storage.packed import CellAddress, MemberAddress
from overpaint.pipeline.storage.tars import TarError, TarMember, read_member, tar_index

_NUM_INDEXES = 64
_HELD_BYTES = 256 * 2**20
Span = tuple[int, int]
"""First byte and size of a member."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """Cell whose picture is a file of its own.

    Attributes:
        path: URI of the file, as the cell has it.
    """

    path: str


class PackedReader:
    """Reads packed sources; several threads may use it.

    Args:
        max_bytes: size of the largest source.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._indexes = Recent[Any](_NUM_INDEXES)
        self._columns = Recent[Any](_HELD_BYTES)

    def member(self, uri: str, address: MemberAddress, span: Span | None) -> bytes:
        """Reads a member of a tar.

        Args:
            uri: URI of the tar.
            address: address of the member.
            span: its place as planning has found it; None, or one that is not its any more, has
                it looked up.

        Raises:
            RowError: `source_missing`, `source_ambiguous`, `source_too_large`, `source_unreadable`.
        """
        if span is not None:
            member = TarMember(address.member, *span)
            data = self._read(uri, member)
            if data is not None:
                return data
        index = self._indexes.get(("tar", uri), lambda: _tar_index(uri))
        members = index.get(address.member, ())
        if not members:
            raise RowError("source_missing", "the tar has no such member")
        if len(members) > 1:
            raise RowError("source_ambiguous", f"the tar has {len(members)} members of that name")
        data = self._read(uri, members[0])
        if data is None:
            raise RowError("source_unreadable", "the tar was replaced while it was read")
        return data

    def _read(self, uri: str, member: TarMember) -> bytes | None:
        self._check_size(member.size)
        return read_member(uri, member)

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise RowError(
                "source_too_large", f"{size} bytes are more than max_bytes = {self._max_bytes}"
            )

    def cells(self, uri: str, addresses: Sequence[CellAddress]) -> list[bytes | Pointer | RowError]:
        """Reads cells of one table, in their order.

        Args:
            uri: URI of the table.
            addresses: addresses of the cells.

        Raises:
            RowError: `source_unreadable`: the file is not the table that its ending says.
        """
        try:
            table = self._indexes.get(("table", uri), lambda: open_cells(uri))
            found = {
                address: self._cell(address, values)
                for column in dict.fromkeys(address.column for address in addresses)
                for address, values in self._column(
                    uri, table, [a for a in addresses if a.column == column]
                )
            }
        except pa.ArrowException as error:
            reason = str(error).split("\n", 1)[0]
            raise RowError("source_unreadable", f"the table cannot be read: {reason}") from error
        return [found[address] for address in addresses]

    def _column(
        self, uri: str, table: CellTable, addresses: Sequence[CellAddress]
    ) -> Iterator[tuple[CellAddress, Any]]:
        """Yields each address with its value, or why there is none."""
        column = addresses[0].column
        groups: dict[int, list[CellAddress]] = {}
        for address in addresses:
            if column not in table.names:
                yield address, RowError("source_missing", f"the table has no column {column!r}")
            elif address.row >= table.starts[-1]:
                yield address, RowError("source_missing", "the table has no such row")
            else:
                group = int(np.searchsorted(table.starts, address.row, side="right")) - 1
                groups.setdefault(group, []).append(address)
        for group, members in groups.items():
            rows = [address.row - table.starts[group] for address in members]
            values = self._values(uri, table, group, column, rows)
            yield from zip(members, values, strict=True)

    def _values(
        self, uri: str, table: CellTable, group: int, column: str, rows: Sequence[int]
    ) -> list[Any]:
        if table.size_of(group, column) > _HELD_BYTES // 2:
            return values_of(table.stream(group, column), rows)
        key = (uri, group, column)
        values = self._columns.get(key, lambda: table.read(group, column), lambda v: v.nbytes)
        return [values[row].as_py() for row in rows]

    def _cell(self, address: CellAddress, value: Any) -> bytes | Pointer | RowError:
        if isinstance(value, RowError):
            return value
        if isinstance(value, list):
            place = address.item
            if place is None and value:
                return RowError("source_missing", "a list is there, and the address names no item")
            if place is not None and place >= len(value):
                return RowError("source_missing", "the list there has no such item")
            value = value[place] if place is not None else None
        elif address.item is not None and value is not None:
            return RowError("source_missing", "no list is there")
        return self._picture(value)

    def _picture(self, value: Any) -> bytes | Pointer | RowError:
        if isinstance(value, dict):
            data, path = value.get("bytes"), value.get("path")
            if data is None and path:
                return Pointer(path)
            value = data
        if value is None:
            return RowError("source_null", "the table holds no picture there")
        if not isinstance(value, bytes):
            return RowError("source_unreadable", f"the cell holds a {type(value).__name__}")
        try:
            self._check_size(len(value))
        except RowError as error:
            return error
        return value


def _tar_index(uri: str) -> dict[str, tuple[TarMember, ...]]:
    try:
        return tar_index(uri)
    except TarError as error:
        raise RowError("source_unreadable", f"the tar cannot be read: {error}") from error
