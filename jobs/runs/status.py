"""Progress of a run, counted from its folder alone, while it goes on or after."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from overpaint.jobs.runs.ticks import gpu_hours, work_s
from overpaint.pipeline.runs.folder import STATS, RunFolder
from overpaint.pipeline.runs.manifest import ACCEPTED, FAILED, REJECTED, Ledger
from overpaint.pipeline.runs.record import RunRecord

_ENDING = ["status", "stage", "error_code"]


def run_status(folder: RunFolder) -> dict[str, Any]:
    """Counts the rows of a run, and its failures by code, and tells whether it is done.

    Raises:
        UsageError: the folder holds no run.
    """
    record = RunRecord.read(folder)
    planned, endings = 0, Counter[tuple[str, str, str]]()
    for num_rows, ended in _parts(folder):
        planned += num_rows
        for row in ended.group_by(_ENDING).aggregate([([], "count_all")]).to_pylist():
            endings[row["status"], row["stage"], row["error_code"]] += row["count_all"]
    by_status, by_code = Counter[str](), Counter[str]()
    for (status, stage, code), num_rows in endings.items():
        by_status[status] += num_rows
        if code:
            by_code[f"{stage}: {code}"] += num_rows
    ledger = Ledger(planned, *(by_status[name] for name in (ACCEPTED, REJECTED, FAILED)))
    return {
        **ledger.as_json(),
        "name": record.name,
        "done": folder.is_finished(),
        "error_codes": dict(by_code),
        "stats": folder.read_json(STATS),
    }


def work_by_row(stats: dict[str, Any], accepted: int) -> str:
    """Words the cost of an accepted row so far; returns an empty text where there is none yet.

    Args:
        stats: statistics of the run.
        accepted: number of accepted rows.
    """
    seconds, hours = work_s(stats), gpu_hours(stats)
    if not accepted or not seconds:
        return ""
    gpus = f", {hours / accepted:.3g} GPU-hours" if hours else ""
    return f"for each accepted row: {seconds / accepted:.3g} s of work{gpus}"


def _parts(folder: RunFolder) -> Iterator[tuple[int, pa.Table]]:
    """Yields for each part its number of planned rows, and how its rows have ended so far."""
    finished = folder.parts("manifest")
    for _, table in folder.tables(_ENDING, parts=finished):
        yield table.num_rows, table
    unfinished = sorted(set(folder.parts("plan")) - set(finished))
    for part, planned in folder.tables(["key"], folder="plan", parts=unfinished):
        yield planned.num_rows, _ended(folder, part)


def _ended(folder: RunFolder, part: int) -> pa.Table:
    """Returns how the rows of an unfinished part have ended, each row once."""
    columns = ["key", *_ENDING]
    try:
        tables = folder.read_results(part, columns)
    except FileNotFoundError:  # the part was finished while its results were read
        return folder.read_part("manifest", part, _ENDING)
    if not tables:
        return pa.table({name: pa.array([], pa.string()) for name in _ENDING})
    once = pa.concat_tables(tables).group_by("key", use_threads=False)
    ended = once.aggregate([(name, "first") for name in _ENDING])
    return ended.select([f"{name}_first" for name in _ENDING]).rename_columns(_ENDING)
