"""Trying failed rows of a finished run again, alone: all that ended well is kept as it is."""

import pyarrow as pa
from overpaint.cluster.group import Run
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.manifest import FAILED, result_schema
from overpaint.pipeline.run_folder import SUCCESS, RunFolder, part_path

_KEPT = "kept"


def reopen(run: Run, error_code: str | None = None) -> int:
    """Makes the failed rows of a run pending again; the run then goes on as after a stop.

    Killed at any point, it leaves a run that `overpaint run` or another `redrive` goes on with:
    the rows to keep are written as results before their part of the manifest is taken away.

    Args:
        run: a finished run.
        error_code: only rows that failed with it; None for all.

    Returns:
        How many rows are pending again.

    Raises:
        UsageError: the run is not finished.
    """
    folder = run.folder
    if folder.read_json(SUCCESS) is None:
        raise UsageError(f"{run.run_uri}: the run is not finished; run the same command again")
    reopened = [_reopen_part(folder, run, part, error_code) for part in folder.parts("manifest")]
    return sum(reopened)


def _reopen_part(folder: RunFolder, run: Run, part: int, error_code: str | None) -> int:
    table = folder.read_part("manifest", part)
    again = _again(table, error_code)
    if not any(again):
        return 0
    kept = table.filter(pa.array([not found for found in again]))
    kept = kept.select(result_schema(run.plan).names)
    folder.write_result(part, _KEPT, kept)
    folder.storage.remove([SUCCESS])
    folder.storage.remove([part_path("manifest", part)])
    return sum(again)


def _again(table: pa.Table, error_code: str | None) -> list[bool]:
    """Whether each row of a part is to be tried again."""
    rows = table.select(["status", "error_code"]).to_pylist()
    return [row["status"] == FAILED and error_code in (None, row["error_code"]) for row in rows]
