"""Structured logs of a worker: a JSON object a line, with run, group, part, task and row keys.

`OVERPAINT_LOG=json` turns them on, in a worker's standard error, from where Ray takes them to its
log files. Every task that ends has a line, and so has every row that fails.
"""

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from overpaint.cluster.worker.task_report import TaskReport
from overpaint.pipeline.runs.manifest import FAILED

VARIABLE = "OVERPAINT_LOG"
_log = logging.getLogger("overpaint.worker")


class JsonLines(logging.Formatter):
    """Formatter of records as JSON objects, each in a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns a record as JSON."""
        entry = {"level": record.levelname.lower(), "time": record.created, "pid": record.process}
        fields: Mapping[str, Any] = getattr(record, "fields", {})
        return json.dumps({**entry, "event": record.getMessage(), **fields}, ensure_ascii=False)


def turn_on() -> None:
    """Sends the lines to standard error where the environment asks for them."""
    if os.environ.get(VARIABLE) != "json" or _log.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    _log.propagate = False
    # Ray Data's own logging turns off all loggers that there are when it is set up.
    _log.disabled = False


def log_task(report: TaskReport, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a line for a task that has ended, and one for each row that failed in it.

    Args:
        report: report of the task.
        rows: its rows, as they ended.
    """
    if not _log.isEnabledFor(logging.INFO):
        return
    _log.info("task", extra={"fields": asdict(report)})
    where = {name: getattr(report, name) for name in ("run", "group", "part", "task")}
    for row in rows:
        if row.get("status") == FAILED:
            cause = {name: row.get(name) for name in ("key", "stage", "error_code")}
            _log.warning("row failed", extra={"fields": {**where, **cause}})
