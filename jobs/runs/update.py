"""Giving a run another form: another recipe, input or version, keeping whatever still holds.

The new form is prepared beside the old one, with the results that are kept already in place, and
takes over once it is complete. Killed before that, the old run stands as it was; killed after, the
next runner finishes the change first. Edits that the new form does not ask for are removed at its
end and not before.
"""

from typing import Any

from overpaint.pipeline.plan import Plan
from overpaint.pipeline.recipe import plan_from_tables
from overpaint.pipeline.runs.folder import KEPT, PLANNED, RECIPE, SUCCESS, WORK, RunFolder
from overpaint.pipeline.runs.inputs import Input
from overpaint.pipeline.runs.planning import plan_parts
from overpaint.pipeline.runs.reuse import Earlier, keep
from overpaint.pipeline.storage.store import Storage

_NEW = f"{WORK}/update"
_READY = f"{WORK}/update.json"
_UPDATED = f"{WORK}/updated.json"
_RESULT = "kept"
_REPLACED = ("manifest", "plan", f"{WORK}/results", KEPT)


def update(
    folder: RunFolder, plan: Plan, given: Input, record: dict[str, Any], found: dict[str, Any]
) -> None:
    """Plans a run anew over an earlier form of it; the caller holds the lease.

    Args:
        folder: of the run.
        plan: the new one.
        given: the new input.
        record: the new `recipe.json`.
        found: the old one.

    Raises:
        UsageError: the old recipe is none that this version reads, or the new input does not fit.
    """
    folder.storage.remove_tree(_NEW)
    new = RunFolder(Storage(folder.storage.at(_NEW)))
    old_plan = plan_from_tables(found["recipe"], folder.storage.at(RECIPE))
    earlier = Earlier(folder, old_plan, found["fingerprints"], found["base_uri"])
    num_rows = num_duplicates = num_kept = 0
    for part, (table, duplicates) in enumerate(plan_parts(plan, given)):
        kept = keep(plan, table, given.base_uri, earlier)
        new.write_part("plan", part, table)
        if kept.ended.num_rows:
            new.write_result(part, _RESULT, kept.ended)
        if kept.answered.num_rows:
            new.write_part(KEPT, part, kept.answered)
        num_rows += table.num_rows
        num_duplicates += duplicates
        num_kept += kept.ended.num_rows
    new.write_json(PLANNED, {"planned": num_rows, "duplicates": num_duplicates})
    new.write_json(_UPDATED, {"kept": num_kept})
    new.write_json(RECIPE, {**record, "earlier": _history(found)})
    folder.write_json(_READY, {"planned": num_rows})
    take_over(folder)


def _history(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The earlier forms of a run: which recipe and versions made what it has kept."""
    names = ("identity", "fingerprint", "fingerprints", "recipe", "versions")
    return [*found.get("earlier", []), {name: found[name] for name in names}]


def is_under_way(folder: RunFolder) -> bool:
    """Whether an update was cut short once it was ready."""
    return folder.read_json(_READY) is not None


def take_over(folder: RunFolder) -> None:
    """Puts a new form that is ready in the place of the old one; may be done again."""
    storage = folder.storage
    storage.remove([SUCCESS])
    for path in _REPLACED:
        storage.remove_tree(path)
    for path in storage.list(_NEW):
        storage.write(path.removeprefix(f"{_NEW}/"), storage.read(path))
    storage.remove([_READY])
    storage.remove_tree(_NEW)


def remove_unnamed(folder: RunFolder) -> int:
    """Removes the objects that the manifest of an updated run does not name; returns how many."""
    if folder.read_json(_UPDATED) is None:
        return 0
    columns = ["edited_uri", "mask_uri"]
    tables = (folder.read_part("manifest", part, columns) for part in folder.parts("manifest"))
    named = {path for table in tables for name in columns for path in table[name].to_pylist()}
    objects = [path for name in ("images", "masks") for path in folder.storage.list(name)]
    unnamed = [path for path in objects if path not in named]
    folder.storage.remove(unnamed)
    return len(unnamed)
