"""Reads the pictures that rows name, objects and members of shards, and says what is wrong."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from overpaint.jobs.verify.findings import Problem
from overpaint.pipeline.identity import sha256
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.storage.packed import MemberAddress, packed_address
from overpaint.pipeline.storage.tars import TarError, tar_members

_AHEAD_BYTES = 8 * 2**20
"""Bytes of a shard that are asked of a store at once: all of it is read."""


class Named(NamedTuple):
    """Picture that a row names.

    Attributes:
        key: key of the row.
        sha256: hash that the row has recorded; None where it has none.
    """

    key: str
    sha256: str | None


class _Shard(NamedTuple):
    """Content of a shard.

    Attributes:
        digests: hash of each member, by its name.
        is_whole: True where it has its end, and no member twice.
    """

    digests: dict[str, str]
    is_whole: bool


def picture_problems(folder: RunFolder, named: Mapping[str, Named]) -> Iterator[Problem]:
    """Reads pictures, several files at a time and each shard once, and yields what is wrong.

    Args:
        folder: run folder.
        named: pictures by path or address.
    """
    objects, shards = list[str](), defaultdict[str, dict[str, Named]](dict)
    for path, picture in named.items():
        address = packed_address(path)
        if isinstance(address, MemberAddress):
            shards[address.container][address.member] = picture
        else:
            objects.append(path)
    digests = folder.storage.map(lambda path: _digest(folder, path), objects)
    for path, digest in zip(objects, digests, strict=True):
        if kind := _kind(named[path], digest):
            yield Problem(kind, named[path].key, path)
    found = folder.storage.map(lambda path: _shard(folder.storage.at(path)), shards)
    for (path, members), shard in zip(shards.items(), found, strict=True):
        for name, picture in members.items():
            if kind := _kind_of_member(picture, shard, name):
                yield Problem(kind, picture.key, str(MemberAddress(path, name)))


def _kind(picture: Named, digest: str | None) -> str | None:
    if digest is None:
        return "missing_object"
    return "wrong_hash" if picture.sha256 not in (None, digest) else None


def _kind_of_member(picture: Named, shard: _Shard | None, name: str) -> str | None:
    if shard is not None and not shard.is_whole:
        return "broken_shard"
    return _kind(picture, shard.digests.get(name) if shard else None)


def _digest(folder: RunFolder, path: str) -> str | None:
    try:
        return sha256(folder.storage.read(path))
    except FileNotFoundError:
        return None


def _shard(uri: str) -> _Shard | None:
    """Reads a shard from its start to its end; returns None where it is gone."""
    digests, is_whole = dict[str, str](), True
    try:
        for member, file in tar_members(uri, _AHEAD_BYTES):
            file.seek(member.offset)
            is_whole = is_whole and member.name not in digests
            digests[member.name] = sha256(file.read(member.size))
    except FileNotFoundError:
        return None
    except TarError:
        is_whole = False
    return _Shard(digests, is_whole)
