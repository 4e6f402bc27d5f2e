"""Retry of the failed rows of a run, alone: all rows that ended well stay as they are."""

from collections.abc import Generator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
from overpaint.cluster.ray.session import Session
from overpaint.jobs.runs.execute import (
    Display,
    Runner,
    SilentDisplay,
    connected_runner,
    execute,
)
from overpaint.jobs.runs.open import refuse_other_versions
from overpaint.jobs.runs.prepare import named_errors
from overpaint.jobs.runs.run import RunResult
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.runs.folder import ATTEMPTS, PLANNED, SUCCESS, RunFolder, part_path
from overpaint.pipeline.runs.lease import acquire_lease
from overpaint.pipeline.runs.manifest import FAILED, result_schema
from overpaint.pipeline.runs.record import RunRecord, existing_run
from overpaint.pipeline.runs.run import Run

_RESULT = "kept"


def redrive(
    output: str,
    *,
    error_code: str | None = None,
    ray: bool = True,
    session: Session | None = None,
    display: Display | None = None,
) -> RunResult:
    """Tries the failed rows of a run again; the same call goes on where it stopped.

    Args:
        output: run folder.
        error_code: code of the rows to retry; None for all.
        ray: whether rows run on Ray; else in this process.
        session: Ray cluster, or resources of a local one; None for `RAY_ADDRESS` or the machine.
        display: shows how the run goes; None shows nothing.

    Raises:
        UsageError: the folder holds no planned run, or the run was made with other versions.
        StoppedError: the run stopped early; the same call goes on.

    Example:
        >>> redrive("demo-run", error_code="source_unreachable").ledger.failed
        0
    """
    with opened(output, ray=ray, session=session, display=display) as (run, runner, shown):
        shown.reopened(reopen_failed_rows(run, error_code))
        summary = execute(run, runner, shown)
    return RunResult.of(run.folder, summary)


@contextmanager
def opened(
    output: str, *, ray: bool, session: Session | None, display: Display | None
) -> Generator[tuple[Run, Runner, Display]]:
    """Opens a planned run whose rows are to be done again, holding its lease.

    Args:
        output: run folder.
        ray: whether rows run on Ray; else in this process.
        session: Ray cluster, or resources of a local one; None for `RAY_ADDRESS` or the machine.
        display: shows how the run goes; None shows nothing.

    Yields:
        The run, what runs its tasks, and its display.

    Raises:
        UsageError: the folder holds no planned run, or the run was made with other versions.
    """
    folder = RunFolder.at(output)
    RunRecord.read(folder)
    session = (session or Session()) if ray else None
    with acquire_lease(folder):
        run = existing_run(folder)
        if not folder.is_planned():
            raise UsageError(f"{folder.storage.uri}: not planned to its end; run its own command")
        with named_errors(folder.storage.uri):
            run.plan.check_models()
        refuse_other_versions(run)
        with display or SilentDisplay() as shown, connected_runner(run.plan, session) as runner:
            yield run, runner, shown


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
    # A row that was given up gets all of its attempts again.
    run.folder.storage.remove_tree(ATTEMPTS)
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
