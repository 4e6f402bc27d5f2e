"""The outcome of a disturbed run, from storage and from the operator's own log of calls."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from overpaint.jobs.faults.operator import Call
from overpaint.pipeline.runs.folder import OBJECT_FOLDERS, RunFolder
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
            byte; with failed rows, where the images and manifest rows of all other rows are.
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
        equal_bytes=_without(run, troubled) == _without(undisturbed, troubled),
    )


def _without(run: RunContents, keys: set[str]) -> tuple[list[dict[str, Any]], Bytes]:
    """Returns the manifest rows and objects of all other rows; whole files for no keys."""
    rows = [row for row in run.rows if row["key"] not in keys]
    objects = {
        path: data
        for path, data in run.objects.items()
        if PurePosixPath(path).stem not in keys and not (keys and path.startswith("manifest/"))
    }
    return rows, objects
