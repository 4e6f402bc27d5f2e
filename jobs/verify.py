"""Proving a run from storage alone: every planned row once, every object with its hash."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.identity import sha256
from overpaint.pipeline.manifest import Ledger, count
from overpaint.pipeline.run_folder import RECIPE, RunFolder

_COLUMNS = ("key", "status", "edited_uri", "edited_sha256", "mask_uri")
_OBJECTS = ("images", "masks")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what kind, which row, which object."""

    kind: str
    key: str
    path: str


def verify(folder: RunFolder) -> tuple[Ledger, list[Problem]]:
    """Holds the manifest against the plan and the objects.

    Returns:
        The counts of the manifest, and all that is wrong: `missing_row`, `unplanned_row`,
        `duplicate_row`, `missing_object`, `wrong_hash`, `orphan`.

    Raises:
        UsageError: the folder holds no run.
    """
    if folder.read_json(RECIPE) is None:
        raise UsageError(f"{folder.storage.uri}: no run there (no {RECIPE})")
    planned = [key for part in folder.parts("plan") for key in _keys(folder, part)]
    rows = [row for part in folder.parts("manifest") for row in _rows(folder, part)]
    problems = [*_row_problems(planned, [row["key"] or "" for row in rows])]
    objects = set(folder.storage.list("images")) | set(folder.storage.list("masks"))
    problems.extend(_object_problems(folder, rows, objects))
    ledger = count((row["status"] or "" for row in rows), len(planned))
    return ledger, problems


def _keys(folder: RunFolder, part: int) -> list[str]:
    keys: list[Any] = folder.read_part("plan", part, ["key"])["key"].to_pylist()
    return keys


def _rows(folder: RunFolder, part: int) -> list[dict[str, str | None]]:
    schema = folder.read_part("manifest", part, None).schema
    present = [name for name in _COLUMNS if name in schema.names]
    rows = folder.read_part("manifest", part, present).to_pylist()
    return [{name: row.get(name) for name in _COLUMNS} for row in rows]


def _row_problems(planned: list[str], found: list[str]) -> Iterator[Problem]:
    counts = Counter(found)
    yield from (Problem("missing_row", key, "") for key in planned if key not in counts)
    yield from (Problem("unplanned_row", key, "") for key in counts.keys() - set(planned))
    yield from (Problem("duplicate_row", key, "") for key, times in counts.items() if times > 1)


def _object_problems(
    folder: RunFolder, rows: list[dict[str, str | None]], objects: set[str]
) -> list[Problem]:
    wanted = {row[name]: row for row in rows for name in ("edited_uri", "mask_uri") if row[name]}
    missing = [
        Problem("missing_object", row["key"] or "", path or "")
        for path, row in wanted.items()
        if path not in objects
    ]
    orphans = [Problem("orphan", "", path) for path in sorted(objects - set(wanted))]
    hashed = [row for row in rows if row["edited_uri"] in objects]
    found = folder.storage.map(lambda path: sha256(folder.storage.read(path)), _paths(hashed))
    wrong = [
        Problem("wrong_hash", row["key"] or "", row["edited_uri"] or "")
        for row, digest in zip(hashed, found, strict=True)
        if digest != row["edited_sha256"]
    ]
    return [*missing, *wrong, *orphans]


def _paths(rows: list[dict[str, str | None]]) -> list[str]:
    return [row["edited_uri"] or "" for row in rows]
