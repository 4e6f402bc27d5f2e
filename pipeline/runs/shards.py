"""Shards: the pictures that a task has made, in one WebDataset tar, where a plan packs them.

images/3f/3f9c....tar#9a41....edited.png    the address of a picture: its shard, and a member of it

A stage that stores pictures names the members; the runner writes their shard once the task is
through its group, and puts the shard's path before the names. A shard has the hash of its bytes for
a name: a task that runs twice writes the same twice, and never over pictures of other rows.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Row
from overpaint.pipeline.identity import sha256
from overpaint.pipeline.runs.folder import object_paths
from overpaint.pipeline.storage.packed import MemberAddress, packed_address
from overpaint.pipeline.storage.store import Storage
from overpaint.pipeline.storage.tars import (
    TarError,
    TarMember,
    make_tar,
    read_member,
    tar_index,
)

_SHARD = re.compile(r"images/([0-9a-f]{2})/\1[0-9a-f]{30}\.tar")
_SHARD_BYTES = 256 * 2**20
"""Bytes of pictures after which a task's next row goes to another shard: it is made in memory."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Picture that waits for its shard.

    Attributes:
        row: place of its row in the task.
        uri: column that is to have its address.
        name: name of the member.
        data: encoded picture.
    """

    row: int
    uri: str
    name: str
    data: bytes


def member_names(key: str, image_format: str) -> dict[str, str]:
    """Returns the names in a shard of all pictures that a row may store, by the column of each.

    All before the first dot is the row's key, so that loaders take them for one sample.
    """
    return {
        c.EDITED_URI.name: f"{key}.edited.{image_format}",
        c.MASK_URI.name: f"{key}.mask.png",
        c.EDITABLE_MASK_URI.name: f"{key}.editable.png",
        c.DRAWN_URI.name: f"{key}.drawn.{image_format}",
    }


def is_shard(path: str) -> bool:
    """Tells whether a path of a run folder is that of a shard."""
    return _SHARD.fullmatch(path) is not None


def is_own(path: str, column: str, key: str, image_format: str) -> bool:
    """Tells whether a path is of an object, or the address of a member, that a row may name.

    Args:
        path: as the row has it.
        column: column that has it.
        key: key of the row.
        image_format: format of the run's images.
    """
    address = packed_address(path)
    if not isinstance(address, MemberAddress):
        return path == object_paths(key, image_format)[column]
    name = member_names(key, image_format)[column]
    return address.member == name and is_shard(address.container)


def pack(
    rows: Sequence[Row],
    images: Mapping[str, str],
    storage: Storage,
    before: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    """Writes the pictures of a task that wait for their shard, and returns its rows with addresses.

    Args:
        rows: rows of the task, with the pictures that they name.
        images: column of each picture that may be stored, with the column of its address.
        storage: storage of the run folder.
        before: places of pictures that a previous version of the run has packed, by key.

    Raises:
        StoppedError: the store takes nothing.
    """
    done = [dict(row) for row in rows]
    spans = [[*before.get(row["key"], ()), *(row.get(c.STORED_SPANS.name) or ())] for row in rows]
    for shard in _cut(list(_waiting(rows, images))):
        data, members = make_tar([(picture.name, picture.data) for picture in shard])
        path = _shard_path(data)
        storage.write(path, data)
        for picture, member in zip(shard, members, strict=True):
            row = done[picture.row]
            row[picture.uri] = str(MemberAddress(path, member.name))
            place = {"uri": row[picture.uri], "offset": member.offset, "size": member.size}
            spans[picture.row].append(place)
    own = (_of_named(row, images, known) for row, known in zip(done, spans, strict=True))
    return [
        {**row, c.STORED_SPANS.name: named or None} for row, named in zip(done, own, strict=True)
    ]


def _waiting(rows: Sequence[Row], images: Mapping[str, str]) -> Iterator[_Waiting]:
    """Yields the pictures that rows name without a folder: those that no shard has yet."""
    for place, row in enumerate(rows):
        for image, uri in images.items():
            if (name := row.get(uri)) and "/" not in name:
                yield _Waiting(place, uri, name, row[image])


def _cut(waiting: Sequence[_Waiting]) -> Iterator[list[_Waiting]]:
    """Cuts pictures into shards of bounded size; those of a row stay together."""
    shard, size = list[_Waiting](), 0
    for picture in waiting:
        if size >= _SHARD_BYTES and picture.row != shard[-1].row:
            yield shard
            shard, size = [], 0
        shard.append(picture)
        size += len(picture.data)
    if shard:
        yield shard


def _shard_path(data: bytes) -> str:
    name = sha256(data)[:32]
    return f"images/{name[:2]}/{name}.tar"


def _of_named(
    row: Row, images: Mapping[str, str], spans: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Returns the places of the pictures that a row names, and of no others."""
    named = {row.get(uri) for uri in images.values()}
    return list({span["uri"]: span for span in spans if span["uri"] in named}.values())


def spans_by_address(spans: Sequence[Mapping[str, Any]] | None) -> dict[str, tuple[int, int]]:
    """Returns first byte and size of members of tars, by their addresses.

    Args:
        spans: value of a column such as `STORED_SPANS`.
    """
    return {span["uri"]: (span["offset"], span["size"]) for span in spans or ()}


def read_picture(storage: Storage, path: str, span: tuple[int, int] | None = None) -> bytes:
    """Reads a picture that a row has stored.

    Args:
        storage: storage of the run folder.
        path: path of an object or address of a member, as the row has it.
        span: first byte and size of the member, where they are known.

    Raises:
        FileNotFoundError: it is not there, or its shard is not whole.
    """
    address = packed_address(path)
    if not isinstance(address, MemberAddress):
        return storage.read(path)
    tar = storage.at(address.container)
    if span is not None:
        data = read_member(tar, TarMember(address.member, *span))
        if data is not None:
            return data
    return _looked_up(tar, address.member)


def _looked_up(tar: str, name: str) -> bytes:
    try:
        members = tar_index(tar).get(name, ())
    except TarError as error:
        raise FileNotFoundError(f"{tar}#{name}: {error}") from error
    data = read_member(tar, members[0]) if len(members) == 1 else None
    if data is None:
        raise FileNotFoundError(f"{tar}#{name}: the tar has {len(members)} members of that name")
    return data
