"""Updating a run to another recipe, input or version, keeping whatever still holds.

The new version is prepared beside the old one, with the cached results already in place, and is
swapped in once it is complete. Killed before that, the old run stands as it was; killed after, the
next runner finishes the swap first. Edits that the new version does not ask for are removed at its
end and not before.
"""

from overpaint.pipeline import columns as c
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.folder import (
    CACHED,
    OBJECT_FOLDERS,
    PLANNED,
    SUCCESS,
    WORK,
    RunFolder,
)
from overpaint.pipeline.runs.inputs import Input
from overpaint.pipeline.runs.planning import plan_parts
from overpaint.pipeline.runs.record import RunRecord
from overpaint.pipeline.runs.reuse import PreviousRun, plan_reuse
from overpaint.pipeline.storage.store import Storage

_NEW = f"{WORK}/update"
_READY = f"{WORK}/update.json"
_UPDATED = f"{WORK}/updated.json"
_RESULT = "reused"
_REPLACED = ("manifest", "plan", f"{WORK}/results", CACHED)


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
    run = PreviousRun(folder, previous.plan(folder), previous.fingerprints, previous.base_uri)
    num_rows = num_duplicates = num_reused = 0
    for part, (table, duplicates) in enumerate(plan_parts(plan, run_input)):
        reuse = plan_reuse(plan, table, run_input.base_uri, run)
        prepared.write_part("plan", part, table)
        if reuse.ended.num_rows:
            prepared.write_result(part, _RESULT, reuse.ended)
        if reuse.cached.num_rows:
            prepared.write_part(CACHED, part, reuse.cached)
        num_rows += table.num_rows
        num_duplicates += duplicates
        num_reused += reuse.ended.num_rows
    prepared.write_json(PLANNED, {"planned": num_rows, "duplicates": num_duplicates})
    prepared.write_json(_UPDATED, {"reused": num_reused})
    new.superseding(previous).write(prepared)
    folder.write_json(_READY, {"planned": num_rows})
    swap_in(folder)


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


def remove_unreferenced(folder: RunFolder) -> int:
    """Removes the objects that no row of an updated run's manifest names; returns their number."""
    if folder.read_json(_UPDATED) is None:
        return 0
    rows = folder.rows(list(c.STORED_IMAGES.values()))
    referenced = {path for row in rows for path in row.values()}
    objects = [path for name in OBJECT_FOLDERS for path in folder.storage.list(name)]
    unreferenced = [path for path in objects if path not in referenced]
    folder.storage.remove(unreferenced)
    return len(unreferenced)
