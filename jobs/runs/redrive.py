"""Retrying failed rows of a run, alone: all rows that ended well stay as they are."""

import pyarrow as pa
import pyarrow.compute as pc
from overpaint.pipeline.runs.folder import PLANNED, SUCCESS, RunFolder, part_path
from overpaint.pipeline.runs.manifest import FAILED, result_schema
from overpaint.pipeline.runs.run import Run

_RESULT = "kept"


def reopen_failed_rows(run: Run, error_code: str | None = None) -> int:
    """Makes the failed rows of a run pending again; the run then goes on as after a stop.

    Killed at any point, it leaves a run that `overpaint run` or another `redrive` goes on with:
    the rows to keep are written as results before their part of the manifest is removed.

    Args:
        run: planned run, whose lease the caller holds.
        error_code: code of the rows to retry; None for all.

    Returns:
        The number of rows that are pending again.
    """
    where = {"status": FAILED}
    if error_code is not None:
        where["error_code"] = error_code
    failed = [(part, table["key"]) for part, table in run.folder.tables(["key"], where)]
    for part, keys in failed:
        if len(keys):
            table = run.folder.read_part("manifest", part)
            is_failed = pc.is_in(table["key"], keys.combine_chunks())
            reset_part(run, part, table.filter(pc.invert(is_failed)))
    return sum(len(keys) for _, keys in failed)


def reset_part(run: Run, part: int, kept: pa.Table | None) -> None:
    """Takes a part of the manifest apart: all rows of its plan part but those kept are pending.

    Args:
        run: run to change.
        part: number of the part.
        kept: rows of the manifest that stay as they are; None for none.
    """
    folder = run.folder
    folder.remove_results(part)
    if kept is not None:
        stored = result_schema(run.plan).names
        names = [name for name in stored if name in kept.column_names]
        folder.write_result(part, _RESULT, kept.select(names))
    reopen_run(folder)
    folder.storage.remove([part_path("manifest", part)])


def reopen_run(folder: RunFolder) -> None:
    """Marks a run as planned and no longer as finished."""
    success = folder.read_json(SUCCESS)
    if success is None:
        return
    planned = {name: success[name] for name in ("planned", "duplicates") if name in success}
    folder.write_json(PLANNED, planned)
    folder.storage.remove([SUCCESS])
