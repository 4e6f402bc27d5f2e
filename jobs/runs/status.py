"""How a run stands, from its folder alone, while it goes or after."""

from collections import Counter
from typing import Any

import pyarrow as pa
from overpaint.pipeline.runs.folder import STATS, RunFolder
from overpaint.pipeline.runs.manifest import count
from overpaint.pipeline.runs.record import RunRecord


def run_status(folder: RunFolder) -> dict[str, Any]:
    """The counts of a run, its failures by code, and whether it is done.

    Raises:
        UsageError: the folder holds no run.
    """
    record = RunRecord.read(folder)
    columns = ["key", "status", "stage", "error_code"]
    finished = folder.parts("manifest")
    tables = [folder.read_part("manifest", part, columns) for part in finished]
    planned = sum(table.num_rows for table in tables)
    for part in folder.parts("plan"):
        if part not in finished:
            planned += folder.read_part("plan", part, ["key"]).num_rows
            tables.extend(folder.read_results(part, columns))
    ended = {row["key"]: row for row in pa.concat_tables(tables).to_pylist()} if tables else {}
    ledger = count((row["status"] for row in ended.values()), planned)
    return {
        **ledger.as_json(),
        "name": record.name,
        "done": folder.is_finished(),
        "error_codes": dict(
            Counter(f"{r['stage']}: {r['error_code']}" for r in ended.values() if r["error_code"])
        ),
        "stats": folder.read_json(STATS),
    }
