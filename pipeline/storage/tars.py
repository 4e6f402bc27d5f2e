"""Tars: the heads of their members are read once, and each member by its place."""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from overpaint.pipeline.storage.store import open_uri, read_range

BLOCK_BYTES = tarfile.BLOCKSIZE
_READ_AHEAD_BYTES = 2**18
_TAIL_BYTES = 2**16
_END_BYTES = 2 * BLOCK_BYTES


class TarError(Exception):
    """Fault of a tar as a whole; its text is a clause that says it."""


@dataclass(frozen=True, slots=True)
class TarMember:
    """File in a tar.

    Attributes:
        name: name of the member.
        offset: its first byte in the tar.
        size: number of its bytes.
    """

    name: str
    offset: int
    size: int


def tar_members(
    uri: str, ahead_bytes: int = _READ_AHEAD_BYTES
) -> Iterator[tuple[TarMember, IO[bytes]]]:
    """Yields the files in a tar, each with the tar, open.

    Args:
        uri: URI of the tar.
        ahead_bytes: bytes that are read ahead on a store: few for heads alone, many for content.

    Raises:
        TarError: the tar is cut off, or not one at all; members before may have been yielded.
        FileNotFoundError: there is no such file.
        PermissionError: it may not be read.
    """
    with open_uri(uri, ahead_bytes) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while (entry := tar.next()) is not None:
                    if entry.isreg() and not entry.issparse():
                        yield TarMember(entry.name, entry.offset_data, entry.size), file
                    kept: Any = tar
                    kept.members.clear()  # the module keeps every head for ever
                _check_end(file, tar.offset)
        except tarfile.TarError as error:
            raise TarError(_reason(file, error)) from error


def _reason(file: IO[bytes], error: tarfile.TarError) -> str:
    file.seek(0)
    if file.read(2) == b"\x1f\x8b":
        return "it is compressed, so that no member can be read alone: gunzip it"
    return f"it is cut off, or not a tar: {error}"


def _check_end(file: IO[bytes], place: int) -> None:
    """Checks that a tar has its mark of the end after its last member, and nothing after that."""
    file.seek(place)
    tail = file.read(_TAIL_BYTES)
    if len(tail) < BLOCK_BYTES:
        raise TarError("it is cut off: it has no mark of its end")
    if tail[:BLOCK_BYTES].strip(b"\0"):
        raise TarError(f"it is damaged at byte {place}")
    if tail.strip(b"\0"):
        raise TarError("it goes on after its end: several tars have been joined")


def tar_index(uri: str) -> dict[str, tuple[TarMember, ...]]:
    """Returns the files in a tar by their names, of which a tar may have several.

    Raises:
        TarError: the tar is cut off, or not one at all.
        FileNotFoundError: there is no such file.
        PermissionError: it may not be read.
    """
    members: dict[str, tuple[TarMember, ...]] = {}
    for member, _ in tar_members(uri):
        members[member.name] = (*members.get(member.name, ()), member)
    return members


def read_member(uri: str, member: TarMember) -> bytes | None:
    """Reads a member by its place; returns None where its head is not before it, or it breaks off.

    Raises:
        FileNotFoundError: there is no such tar.
        PermissionError: it may not be read.
    """
    data = read_range(uri, member.offset - BLOCK_BYTES, member.offset + member.size)
    if len(data) < BLOCK_BYTES + member.size or not is_head(data[:BLOCK_BYTES], member):
        return None
    return data[BLOCK_BYTES:]


def make_tar(files: Sequence[tuple[str, bytes]]) -> tuple[bytes, list[TarMember]]:
    """Makes a tar whose bytes depend on its files alone: owners and times are nobody's and never.

    Args:
        files: name of at most 100 bytes, and content, of each member.

    Returns:
        The tar, and the places of its members.
    """
    parts, members, place = list[bytes](), list[TarMember](), 0
    for name, data in files:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        head = entry.tobuf(tarfile.USTAR_FORMAT)
        members.append(TarMember(name, place + len(head), len(data)))
        parts += [head, data, bytes(-len(data) % BLOCK_BYTES)]
        place += sum(map(len, parts[-3:]))
    parts.append(bytes(_END_BYTES + -(place + _END_BYTES) % tarfile.RECORDSIZE))
    return b"".join(parts), members


def is_head(head: bytes, member: TarMember) -> bool:
    """Tells whether the block before a member's first byte is the head of that member."""
    try:
        entry = tarfile.TarInfo.frombuf(head, tarfile.ENCODING, "surrogateescape")
    except tarfile.TarError:
        return False
    # Long names have a head of their own before this one, which holds their beginning.
    return entry.size == member.size and member.name.startswith(entry.name[:100])
