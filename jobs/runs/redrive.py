"""Trying failed rows of a run again, alone: all that ended well is kept as it is."""

import pyarrow as pa
from overpaint.pipeline.runs.folder import PLANNED, SUCCESS, RunFolder, part_path
from overpaint.pipeline.runs.manifest import FAILED, result_schema
from overpaint.pipeline.runs.run import Run

_KEPT = "kept"


def reopen(run: Run, error_code: str | None = None) -> int:
    """Makes the failed rows of a run pending again; the run then goes on as after a stop.

    Killed at any point, it leaves a run that `overpaint run` or another `redrive` goes on with:
    the rows to keep are written as results before their part of the manifest is taken away.

    Args:
        run: a planned run, whose lease the caller holds.
        error_code: only rows that failed with it; None for all.

    Returns:
        How many rows are pending again.
    """
    folder = run.folder
    reopened = [_reopen_part(folder, run, part, error_code) for part in folder.parts("manifest")]
    return sum(reopened)


def _reopen_part(folder: RunFolder, run: Run, part: int, error_code: str | None) -> int:
    table = folder.read_part("manifest", part)
    again = _again(table, error_code)
    if not any(again):
        return 0
    keep_rows(run, part, table.filter(pa.array([not found for found in again])))
    return sum(again)


def keep_rows(run: Run, part: int, kept: pa.Table | None) -> None:
    """Takes a part of the manifest apart: all rows of its plan part but those kept are pending.

    Args:
        run: whose folder it is.
        part: its number.
        kept: rows of the manifest; None for none.
    """
    folder = run.folder
    folder.remove_results(part)
    if kept is not None:
        stored = result_schema(run.plan).names
        names = [name for name in stored if name in kept.column_names]
        folder.write_result(part, _KEPT, kept.select(names))
    unfinish(folder)
    folder.storage.remove([part_path("manifest", part)])


def unfinish(folder: RunFolder) -> None:
    """Takes back that a run is done, and keeps that it is planned."""
    success = folder.read_json(SUCCESS)
    if success is None:
        return
    planned = {name: success[name] for name in ("planned", "duplicates") if name in success}
    folder.write_json(PLANNED, planned)
    folder.storage.remove([SUCCESS])


def _again(table: pa.Table, error_code: str | None) -> list[bool]:
    """Whether each row of a part is to be tried again."""
    rows = table.select(["status", "error_code"]).to_pylist()
    return [row["status"] == FAILED and error_code in (None, row["error_code"]) for row in rows]
