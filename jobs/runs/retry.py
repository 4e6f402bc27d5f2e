"""Rejected edits tried again with the next seed or editor, until one is accepted or to a bound."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from overpaint.cluster.ray.session import Session
from overpaint.jobs.runs.execute import Display, execute
from overpaint.jobs.runs.redrive import opened, reset_part
from overpaint.jobs.runs.run import RunResult
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.runs.folder import PLANNED, SUCCESS
from overpaint.pipeline.runs.run import Run
from overpaint.pipeline.runs.source_versions import repeat_versions
from overpaint.pipeline.runs.tries import MoreTries


def retry(
    output: str,
    *,
    tries: int,
    methods: Sequence[str] = (),
    ray: bool = True,
    session: Session | None = None,
    display: Display | None = None,
) -> RunResult:
    """Tries edits of a run again of which no try is accepted; the same call goes on if stopped.

    A round adds one try to each such edit. Rows that the run has keep their keys, pictures and
    scores; the policy then chooses among all tries.

    Args:
        output: run folder.
        tries: tries that an edit may have in all, at least 2.
        methods: choices of the plan's edit that may try too, beside those of the rows.
        ray: whether rows run on Ray; else in this process.
        session: Ray cluster, or resources of a local one; None for `RAY_ADDRESS` or the machine.
        display: shows how the run goes; None shows nothing.

    Raises:
        UsageError: the folder holds no planned run, or one that has no further tries to make.
        StoppedError: the run stopped early; the same call goes on.

    Example:
        >>> retry("pairs-run", tries=8).ledger.accepted
        61
    """
    if tries < 2:
        raise UsageError(f"--tries {tries}: an edit has one try already; give 2 or more")
    with opened(output, ray=ray, session=session, display=display) as (run, runner, shown):
        summary = execute(run, runner, shown)
        more = MoreTries(run.plan, tries, methods)
        while added := add_tries(run, more):
            shown.noted(f"{added} rejected edits are tried once more")
            summary = execute(run, runner, shown)
    return RunResult.of(run.folder, summary)


def add_tries(run: Run, more: MoreTries) -> int:
    """Adds one try to each edit of a finished run of which none is accepted; returns their number.

    Killed at any point, it leaves a run that `overpaint run` or another `retry` goes on with: the
    rows of a part are written as results before its plan grows.

    Args:
        run: finished run, whose lease the caller holds.
        more: plans the tries.
    """
    added = 0
    for part in run.folder.parts("plan"):
        planned, ended = (run.folder.read_part(name, part) for name in ("plan", "manifest"))
        rows = more.added(planned.to_pylist(), ended.to_pylist())
        if rows:
            added += len(rows) - planned.num_rows
            _grow(run, part, planned, pa.Table.from_pylist(rows, planned.schema), ended)
    return added


def _grow(run: Run, part: int, before: pa.Table, after: pa.Table, ended: pa.Table) -> None:
    """Replaces a part of the plan by a longer one, whose first rows have ended."""
    folder = run.folder
    counts = folder.read_json(SUCCESS)
    reset_part(run, part, ended)
    if counts is not None:  # the number of rows is that of the plan, whatever it grows to
        folder.write_json(PLANNED, {n: v for n, v in counts.items() if n == "duplicates"})
    sources: list[Any] = [table["source_uri"].to_pylist() for table in (before, after)]
    repeat_versions(folder, part, *sources)
    folder.write_part("plan", part, after)
