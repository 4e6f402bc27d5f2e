"""Updating a run to another recipe, input or version, keeping whatever still holds.

The new version is prepared beside the old one, with the cached results already in place, and is
swapped in once it is complete. Killed before that, the old run stands as it was; killed after, the
next runner finishes the swap first. Edits that the new version does not ask for are removed at its
end and not before.
"""

from datetime import datetime
from typing import Any

from overpaint.jobs.runs.ticks import BEGUN, begin_tick
from overpaint.pipeline import columns as c
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.folder import (
    CACHED,
    OBJECT_FOLDERS,
    PLANNED,
    STATS,
    SUCCESS,
    WORK,
    RunFolder,
)
from overpaint.pipeline.runs.inputs import Input
from overpaint.pipeline.runs.planning import plan_parts
from overpaint.pipeline.runs.record import RunRecord
from overpaint.pipeline.runs.reuse import PreviousRun, plan_reuse
from overpaint.pipeline.runs.source_versions import SOURCES, SourceVersions, write_versions
from overpaint.pipeline.storage.packed import file_of
from overpaint.pipeline.storage.store import Storage

_NEW = f"{WORK}/update"
_READY = f"{WORK}/update.json"
_UPDATED = f"{WORK}/updated.json"
_RESULT = "reused"
_REPLACED = ("manifest", "plan", SOURCES, f"{WORK}/results", CACHED)


def update_run(
    folder: RunFolder, plan: Plan, run_input: Input, *, new: RunRecord, previous: RunRecord
) -> None:
    """Plans a run anew over a previous version of it; the caller holds the lease.

    Args:
        folder: run folder.
        plan: new plan.
        run_input: new input.
        new: record of the new version.
        previous: record of the version in the folder.

    Raises:
        UsageError: this version of Overpaint does not read the previous recipe, or the new input
            does not fit the new plan.
    """
    folder.storage.remove_tree(_NEW)
    prepared = RunFolder(Storage(folder.storage.at(_NEW)))
    run = _previous_run(folder, previous)
    versions = SourceVersions(run_input.base_uri)
    num_rows = num_duplicates = num_reused = num_known = num_replaced = 0
    for part, (table, duplicates) in enumerate(plan_parts(plan, run_input)):
        sources: list[Any] = table["source_uri"].to_pylist()
        now = versions.of(sources)
        reuse = plan_reuse(plan, table, run_input.base_uri, run, now)
        prepared.write_part("plan", part, table)
        write_versions(prepared, part, now)
        if reuse.ended.num_rows:
            prepared.write_result(part, _RESULT, reuse.ended)
        if reuse.cached.num_rows:
            prepared.write_part(CACHED, part, reuse.cached)
        num_rows += table.num_rows
        num_duplicates += duplicates
        num_reused += reuse.ended.num_rows
        num_known += run.num_known(table["key"])
        num_replaced += reuse.num_replaced
    prepared.write_json(PLANNED, {"planned": num_rows, "duplicates": num_duplicates})
    prepared.write_json(_UPDATED, {"reused": num_reused})
    tick = begin_tick(
        folder,
        new=num_rows - num_known,
        changed=num_replaced,
        gone=run.num_rows - num_known,
        again=num_known - num_replaced - num_reused,
    )
    prepared.write_json(BEGUN, tick)
    new.superseding(previous).write(prepared)
    folder.write_json(_READY, {"planned": num_rows})
    swap_in(folder)


def _previous_run(folder: RunFolder, record: RunRecord) -> PreviousRun:
    started_at = (folder.read_json(STATS) or {}).get("started_at")
    return PreviousRun(
        folder,
        record.plan(folder),
        record.fingerprints,
        record.base_uri,
        datetime.fromisoformat(started_at).timestamp() if started_at else None,
    )


def begin_first_tick(folder: RunFolder, base_uri: str, num_rows: int) -> None:
    """Writes down the sources' versions of a run that is new, by which its updates go.

    Args:
        folder: planned run.
        base_uri: folder or prefix that its relative sources are relative to.
        num_rows: number of its rows.
    """
    versions = SourceVersions(base_uri)
    for part, table in folder.tables(["source_uri"], folder="plan"):
        sources: list[Any] = table["source_uri"].to_pylist()
        write_versions(folder, part, versions.of(sources))
    folder.write_json(BEGUN, begin_tick(folder, new=num_rows))


def has_pending_swap(folder: RunFolder) -> bool:
    """Tells whether an update was cut short once its new version was ready."""
    return folder.read_json(_READY) is not None


def swap_in(folder: RunFolder) -> None:
    """Puts a new version that is ready in the place of the old one; may be repeated."""
    storage = folder.storage
    storage.remove([SUCCESS])
    for path in _REPLACED:
        storage.remove_tree(path)
    for path in storage.list(_NEW):
        storage.write(path.removeprefix(f"{_NEW}/"), storage.read(path))
    storage.remove([_READY])
    storage.remove_tree(_NEW)


def _draws(folder: RunFolder) -> bool:
    """Tells whether a stage of a run draws the sources of its rows."""
    return c.DRAWN_URI in RunRecord.read(folder).plan(folder).stored_columns()


def remove_unreferenced(folder: RunFolder, *, is_packed: bool) -> int:
    """Removes the files of pictures that no row of a run's manifest names; returns their number.

    Rows of a run that keeps objects and was not updated name all of them. A shard may be left by a
    task that was cut otherwise the next time, or whose rows have all been made again.

    Args:
        folder: run folder, whose manifest is complete.
        is_packed: whether the run packs pictures into shards.
    """
    if folder.read_json(_UPDATED) is None and not is_packed:
        return 0
    names = [*c.STORED_IMAGES.values(), *([c.DRAWN_URI.name] if _draws(folder) else [])]
    rows = folder.rows(names)
    referenced = {file_of(path) for row in rows for path in row.values() if path is not None}
    objects = [path for name in OBJECT_FOLDERS for path in folder.storage.list(name)]
    unreferenced = [path for path in objects if path not in referenced]
    folder.storage.remove(unreferenced)
    return len(unreferenced)
