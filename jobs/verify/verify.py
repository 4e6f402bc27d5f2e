"""Checks a run from storage alone: every planned row once, every object with its hash.

One part of the run is in memory at a time, beside a 16-byte digest of every key and path.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from overpaint.jobs.verify.digest_set import DigestSet
from overpaint.jobs.verify.findings import Findings, Problem
from overpaint.jobs.verify.pictures import Named, picture_problems
from overpaint.pipeline import columns as c
from overpaint.pipeline.runs.folder import (
    OBJECT_FOLDERS,
    SUCCESS,
    WORK,
    RunFolder,
    object_paths,
    part_path,
)
from overpaint.pipeline.runs.lease import LEASE
from overpaint.pipeline.runs.manifest import Ledger, count
from overpaint.pipeline.runs.record import RunRecord
from overpaint.pipeline.runs.shards import is_own, is_shard
from overpaint.pipeline.storage.clutter import is_clutter
from overpaint.pipeline.storage.packed import file_of

_HASHES = {
    **{uri: uri.replace("_uri", "_sha256") for uri in c.STORED_IMAGES.values()},
    c.DRAWN_URI.name: c.SOURCE_SHA256.name,
}
"""Columns with the hash of an object, by the column that names the object."""
_COLUMNS = ("key", "status", *_HASHES, *_HASHES.values())
_ADDED = {2: (c.EDITABLE_MASK_URI,)}
"""Fixed columns of the manifest that came with a version of keys."""


@dataclass(frozen=True, slots=True)
class PartCheck:
    """The result of checking one part of the plan.

    Attributes:
        number: number of the part.
        problems: problems of the part's rows and of their objects.
        ledger: counts of the part's rows in the manifest.
    """

    number: int
    problems: list[Problem]
    ledger: Ledger


@dataclass
class Scan:
    """One check of a whole run: the plan, then part by part, then what belongs to no part.

    Attributes:
        folder: run folder to check.
        ledger: counts of the parts that `parts` has yielded so far.

    Raises:
        UsageError: the folder holds no run.
    """

    folder: RunFolder
    ledger: Ledger = field(default_factory=Ledger)

    def __post_init__(self) -> None:
        record = RunRecord.read(self.folder)
        self._format = record.image_format
        self._fixed = _fixed_columns(record.keys_version)
        self._success: dict[str, Any] | None = self.folder.read_json(SUCCESS)
        self._planned = self.folder.parts("plan")
        self._manifest = self.folder.parts("manifest")
        self._paths, self._schema = DigestSet(), None
        self._are_shards_known = self._success is not None

    def plan(self) -> Iterator[Problem]:
        """Yields the problems of the plan: missing parts, missing rows, rows planned twice."""
        keys, num_rows = DigestSet(), 0
        broken = set(range(max(self._planned, default=0))) - set(self._planned)
        for part in self._planned:
            part_keys = self._planned_keys(part)
            if part_keys is None:
                broken.add(part)
            else:
                keys.add(part_keys)
                num_rows += len(part_keys)
        yield from (Problem("bad_plan", "", part_path("plan", part)) for part in sorted(broken))
        is_whole = self._success is None or self._success.get("planned") == num_rows
        if keys.num_duplicates() or not (broken or is_whole):
            yield Problem("bad_plan", "", "plan")

    def parts(self) -> Iterator[PartCheck]:
        """Checks each part of the plan against its part of the manifest and its rows' objects."""
        for number in self._planned:
            part = self._part(number)
            self.ledger = self.ledger.plus(part.ledger)
            yield part

    def rest(self) -> Iterator[Problem]:
        """Yields the problems that belong to no part; to be called after all `parts`."""
        for number in sorted(set(self._manifest) - set(self._planned)):
            yield Problem("unplanned_part", "", part_path("manifest", number))
        yield from self._orphans()
        if self._success is None:
            return
        yield from (Problem("leftover", "", path) for path in leftovers(self.folder))
        counted = {name: self._success.get(name) for name in self.ledger.as_json()}
        if counted != self.ledger.as_json():
            yield Problem("wrong_success", "", SUCCESS)

    def _part(self, number: int) -> PartCheck:
        keys, path = self._planned_keys(number), part_path("manifest", number)
        if keys is None:
            return PartCheck(number, [], Ledger())
        if number not in self._manifest:
            problems = [Problem("missing_part", "", path)] if self._success else []
            return self._without_rows(number, keys, problems)
        try:
            table = self.folder.read_part("manifest", number)
        except (pa.ArrowException, OSError):
            return self._without_rows(number, keys, [Problem("unreadable_part", "", path)])
        if not self._fits(table.schema):
            return self._without_rows(number, keys, [Problem("wrong_schema", "", path)])
        names = [name for name in _COLUMNS if name in table.column_names]
        rows, planned = table.select(names).to_pylist(), set(keys)
        objects = self._object_problems([row for row in rows if row["key"] in planned])
        problems = [*_row_problems(keys, rows, path), *objects]
        return PartCheck(number, problems, count((row["status"] for row in rows), len(keys)))

    def _planned_keys(self, number: int) -> list[str] | None:
        """Reads the keys of a part of the plan; None where it cannot be read."""
        try:
            table = self.folder.read_part("plan", number, ["key"])
        except (pa.ArrowException, OSError):
            return None
        return [key or "" for key in table["key"].to_pylist()]

    def _without_rows(self, number: int, keys: list[str], problems: list[Problem]) -> PartCheck:
        """Returns a part whose rows have not ended: what they have stored is not an orphan."""
        self._are_shards_known = False
        stored = (object_paths(key, self._format).values() for key in keys)
        self._paths.add(path for paths in stored for path in paths)
        return PartCheck(number, problems, Ledger(len(keys)))

    def _fits(self, schema: pa.Schema) -> bool:
        """Tells whether a part has the manifest's columns, then those of the parts before it."""
        if pa.schema(list(schema)[: len(self._fixed)]) != self._fixed:
            return False
        self._schema = self._schema or schema
        return schema.equals(self._schema)

    def _object_problems(self, rows: list[dict[str, Any]]) -> Iterator[Problem]:
        """Reads the objects that rows name, several at a time, and yields what is wrong."""
        pictures: dict[str, Named] = {}
        for row in rows:
            for uri, digest in _HASHES.items():
                if (path := row.get(uri)) is None:
                    continue
                if is_own(path, uri, row["key"], self._format):
                    pictures[path] = Named(row["key"], row.get(digest))
                else:
                    yield Problem("bad_uri", row["key"], path)
        self._paths.add({file_of(path) for path in pictures})
        yield from picture_problems(self.folder, pictures)

    def _orphans(self) -> Iterator[Problem]:
        for folder in OBJECT_FOLDERS:
            for paths in self.folder.storage.walk(folder):
                belong = self._paths.contains(paths)
                for path, belongs_to_row in zip(paths, belong, strict=True):
                    if not (belongs_to_row or is_clutter(path) or self._may_be_named(path)):
                        yield Problem("orphan", "", path)

    def _may_be_named(self, path: str) -> bool:
        """Tells whether a file may be a shard of rows whose part of the manifest was not read."""
        return is_shard(path) and not self._are_shards_known


def _fixed_columns(keys_version: int) -> pa.Schema:
    """Returns the first columns of the manifests that a version wrote."""
    later = {o for version, columns in _ADDED.items() if version > keys_version for o in columns}
    return pa.schema([pa.field(o.name, o.type) for o in c.MANIFEST if o not in later])


def verify(folder: RunFolder) -> tuple[Ledger, Findings]:
    """Checks the manifest of a run against its plan and its objects.

    Args:
        folder: run folder to check.

    Returns:
        The counts of the manifest, and all problems.

    Raises:
        UsageError: the folder holds no run.

    Example:
        >>> ledger, findings = verify(RunFolder(Storage("demo-run")))
        >>> if not findings and not ledger.pending:
        ...     print("every row is accounted for")
    """
    scan, findings = Scan(folder), Findings()
    for problem in scan.plan():
        findings.add(problem)
    for part in scan.parts():
        for problem in part.problems:
            findings.add(problem)
    for problem in scan.rest():
        findings.add(problem)
    return scan.ledger, findings


def leftovers(folder: RunFolder) -> list[str]:
    """Lists what killed processes left in a finished run that nobody is at work on."""
    storage = folder.storage
    halves = [
        path for name in (*OBJECT_FOLDERS, "plan", "manifest") for path in storage.leftovers(name)
    ]
    return [*(path for path in storage.list(WORK) if path != LEASE), *halves]


def _row_problems(
    planned: list[str], rows: Sequence[Mapping[str, Any]], path: str
) -> Iterator[Problem]:
    """Compares the rows of a part of the manifest with the keys of its part of the plan."""
    keys = [row["key"] or "" for row in rows]
    times, planned_keys = Counter(keys), set(planned)
    yield from (Problem("missing_row", key, path) for key in planned if key not in times)
    yield from (Problem("unplanned_row", key, path) for key in times if key not in planned_keys)
    yield from (Problem("duplicate_row", key, path) for key, n in times.items() if n > 1)
    yield from (
        Problem("unended_row", row["key"] or "", path)
        for row in rows
        if row["status"] not in ("accepted", "rejected", "failed")
    )
    if keys != planned and times == Counter(planned):
        yield Problem("wrong_order", "", path)
