"""What a disturbed run kept of its promise, from storage and from the operator's own account."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from overpaint.jobs.faults.operator import Call
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.storage.store import Storage

Bytes = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The ledger of a run after a fault.

    Args:
        lost: planned keys that are not in the manifest.
        duplicated: keys that are in the manifest more than once, counted as often as too often.
        redone: calls of a row beyond its first, by the operator's own account; not those of rows
            that were told to make trouble, which are tried again on purpose.
        failed: the rows that failed, with their codes, by source.
        equal_bytes: whether images/, masks/ and manifest/ are the undisturbed run's, byte for byte;
            with failed rows, whether all other rows' images and manifest rows are.
    """

    lost: int
    duplicated: int
    redone: int
    failed: dict[str, str]
    equal_bytes: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """What a finished run left in its store."""

    planned: list[str]
    rows: list[dict[str, Any]]
    objects: Bytes


def stored(output: str) -> Stored:
    """Reads all that equal runs share."""
    folder = RunFolder(Storage(output))
    paths = [path for name in ("images", "masks", "manifest") for path in folder.storage.list(name)]
    contents = folder.storage.map(folder.storage.read, paths)
    return Stored(
        [str(row["key"]) for row in folder.rows(["key"], folder="plan")],
        list(folder.rows()),
        dict(zip(paths, contents, strict=True)),
    )


def outcome(found: Stored, undisturbed: Stored, calls: Sequence[Call]) -> Outcome:
    """Holds a run against its plan, its account and its undisturbed twin."""
    times = Counter(row["key"] for row in found.rows)
    failed = {
        row["source_uri"]: row["error_code"] for row in found.rows if row["status"] == "failed"
    }
    troubled = {row["key"] for row in found.rows if row["source_uri"] in failed}
    called = Counter(call.key for call in calls if call.key not in troubled)
    return Outcome(
        lost=len({*found.planned, *undisturbed.planned} - times.keys()),
        duplicated=sum(count - 1 for count in times.values()),
        redone=sum(count - 1 for count in called.values()),
        failed=failed,
        equal_bytes=_without(found, troubled) == _without(undisturbed, troubled),
    )


def _without(run: Stored, keys: set[str]) -> tuple[list[dict[str, Any]], Bytes]:
    """The rows and objects of all other rows; the whole files where there are no such rows."""
    rows = [row for row in run.rows if row["key"] not in keys]
    objects = {
        path: data
        for path, data in run.objects.items()
        if PurePosixPath(path).stem not in keys and not (keys and path.startswith("manifest/"))
    }
    return rows, objects
