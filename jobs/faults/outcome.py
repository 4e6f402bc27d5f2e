"""The outcome of a disturbed run, from storage and from the operator's own log of calls."""

import io
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from overpaint.jobs.faults.operator import Call
from overpaint.pipeline import columns as c
from overpaint.pipeline.runs.folder import OBJECT_FOLDERS, RunFolder
from overpaint.pipeline.runs.shards import is_shard
from overpaint.pipeline.storage.packed import file_of
from overpaint.pipeline.storage.store import Storage

Bytes = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The comparison of a disturbed run with its plan and an undisturbed run.

    Attributes:
        lost: number of planned keys that are not in the manifest.
        duplicated: number of rows in the manifest beyond the first of their key.
        redone: number of calls of a row beyond its first, by the operator's own log; without rows
            that make trouble, which are tried again on purpose.
        failed: error codes of the rows that failed, by source.
        equal_bytes: True where images/, masks/ and manifest/ are the undisturbed run's, byte for
            byte; with failed rows, where the images and manifest rows of all other rows are, and
            of runs with shards, where the pictures and other values of all rows are.
    """

    lost: int
    duplicated: int
    redone: int
    failed: dict[str, str]
    equal_bytes: bool


@dataclass(frozen=True, slots=True)
class RunContents:
    """The contents of a finished run's folder that equal runs share.

    Attributes:
        planned: keys of the plan, in order.
        rows: rows of the manifest, in order.
        objects: bytes of images, masks and manifest parts, by path.
    """

    planned: list[str]
    rows: list[dict[str, Any]]
    objects: Bytes

    @property
    def is_packed(self) -> bool:
        """True where rows name members of shards."""
        return any(row.get(c.STORED_SPANS.name) for row in self.rows)


def read_contents(output: str) -> RunContents:
    """Reads the contents of a run folder."""
    folder = RunFolder(Storage(output))
    folders = (*OBJECT_FOLDERS, "manifest")
    paths = [path for name in folders for path in folder.storage.list(name)]
    contents = folder.storage.map(folder.storage.read, paths)
    return RunContents(
        [str(row["key"]) for row in folder.rows(["key"], folder="plan")],
        list(folder.rows()),
        dict(zip(paths, contents, strict=True)),
    )


def compare(run: RunContents, undisturbed: RunContents, calls: Sequence[Call]) -> Outcome:
    """Compares a run with its plan, its operator's log of calls, and an undisturbed run."""
    times = Counter(row["key"] for row in run.rows)
    failed = {row["source_uri"]: row["error_code"] for row in run.rows if row["status"] == "failed"}
    troubled = {row["key"] for row in run.rows if row["source_uri"] in failed}
    called = Counter(call.key for call in calls if call.key not in troubled)
    return Outcome(
        lost=len({*run.planned, *undisturbed.planned} - times.keys()),
        duplicated=sum(count - 1 for count in times.values()),
        redone=sum(count - 1 for count in called.values()),
        failed=failed,
        equal_bytes=_equal_bytes(run, undisturbed, troubled),
    )


def _equal_bytes(run: RunContents, undisturbed: RunContents, troubled: set[str]) -> bool:
    if run.is_packed or undisturbed.is_packed:
        return _unpacked(run, troubled) == _unpacked(undisturbed, troubled)
    return _without(run, troubled) == _without(undisturbed, troubled)


def _unpacked(run: RunContents, troubled: set[str]) -> tuple[list[dict[str, Any]], set[str]]:
    """Returns rows with pictures in place of their addresses, and the files that none names."""
    members = {
        f"{path}#{name}": data
        for path, shard in run.objects.items()
        if is_shard(path)
        for name, data in _members(shard)
    }
    held: dict[str | None, bytes] = {**run.objects, **members}
    uris = [*c.STORED_IMAGES.values()]
    rows = [
        {**row, **{uri: held.get(row[uri]) for uri in uris}, c.STORED_SPANS.name: None}
        for row in run.rows
        if row["key"] not in troubled
    ]
    named = {file_of(row[uri]) for row in run.rows for uri in uris if row[uri] is not None}
    return rows, {path for path in run.objects.keys() - named if not path.startswith("manifest/")}


def _members(shard: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(shard), mode="r:") as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None, "a shard has files alone"
            yield member.name, content.read()


def _without(run: RunContents, keys: set[str]) -> tuple[list[dict[str, Any]], Bytes]:
    """Returns the manifest rows and objects of all other rows; whole files for no keys."""
    rows = [row for row in run.rows if row["key"] not in keys]
    objects = {
        path: data
        for path, data in run.objects.items()
        if PurePosixPath(path).stem not in keys and not (keys and path.startswith("manifest/"))
    }
    return rows, objects
