"""Addresses of sources that are packed into files with others: members of tars, cells of tables.

    shards/000.tar#0017.jpg              the member 0017.jpg of a tar
    data/part-3.parquet#image@17         row 17, from 0, of the column `image`
    data/part-3.parquet#images@17[2]     the third picture of a list there; also of an .arrow file

An address is part of a row's key, and says all that is needed to read the source where it lies.
"""

import re
from dataclasses import dataclass

_MEMBER = re.compile(r"(.+?\.tar)#(.+)", re.IGNORECASE | re.DOTALL)
_CELL = re.compile(
    r"(.+?\.(?:parquet|arrow))#(.+)@(\d{1,18})(?:\[(\d{1,18})\])?", re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class MemberAddress:
    """Address of a member of a tar.

    Attributes:
        container: URI of the tar, as the address has it.
        member: name of the member.
    """

    container: str
    member: str

    def __str__(self) -> str:
        return f"{self.container}#{self.member}"


@dataclass(frozen=True, slots=True)
class CellAddress:
    """Address of a picture in a table.

    Attributes:
        container: URI of the Parquet or Arrow file, as the address has it.
        column: name of the column.
        row: row of the file, from 0.
        item: place in the list that the cell holds, from 0; None for a cell that is no list.
    """

    container: str
    column: str
    row: int
    item: int | None = None

    def __str__(self) -> str:
        item = "" if self.item is None else f"[{self.item}]"
        return f"{self.container}#{self.column}@{self.row}{item}"


def packed_address(uri: str) -> MemberAddress | CellAddress | None:
    """Takes an address apart; returns None for the URI of a file of its own.

    Example:
        >>> packed_address("shards/000.tar#0017.jpg").member
        '0017.jpg'
    """
    if "#" not in uri:
        return None
    if match := _MEMBER.fullmatch(uri):
        return MemberAddress(match[1], match[2])
    if match := _CELL.fullmatch(uri):
        item = int(match[4]) if match[4] is not None else None
        return CellAddress(match[1], match[2], int(match[3]), item)
    return None


def file_of(uri: str) -> str:
    """Returns the URI of the file that a source is, or is in."""
    packed = packed_address(uri)
    return packed.container if packed else uri
