"""Opening a run: planned into its folder, resumed as it was planned, or refused.

A run is resumed with the recipe, the input and the versions that it began with; another version of
it is planned only where the user asks for that.
"""

from collections.abc import Callable

import pyarrow.compute as pc
from overpaint.jobs.runs.update import (
    begin_first_tick,
    has_pending_swap,
    swap_in,
    update_run,
)
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.runs.folder import PLANNED, WORK, RunFolder, part_path
from overpaint.pipeline.runs.inputs import Input, InputRequest, is_image_folder
from overpaint.pipeline.runs.manifest import result_schema
from overpaint.pipeline.runs.planning import write_plan
from overpaint.pipeline.runs.record import RunRecord
from overpaint.pipeline.runs.run import Run
from overpaint.pipeline.storage.checks import check_writable, first_contact
from overpaint.pipeline.storage.clutter import is_clutter
from overpaint.pipeline.storage.uris import normalise


def check_output(folder: RunFolder, request: InputRequest) -> None:
    """Checks in seconds, before anything is read, planned or loaded, that a run may go there.

    Raises:
        UsageError: the credentials are wrong, nothing may be written there, the folder holds files
            that are not a run's, or it is in the folder of images that the run would read.
    """
    if RunRecord.find(folder) is None:
        _refuse_foreign_files(folder)
    check_writable(folder.storage.uri)
    input_uri = normalise(request.uri)
    with first_contact(input_uri):
        is_inside = f"{folder.storage.uri}/".startswith(f"{input_uri}/")
        is_joined = is_inside and is_image_folder(input_uri)
    if is_joined:
        raise UsageError(
            f"{folder.storage.uri}: the output is in the input, {input_uri}, whose images would "
            "then be joined by the run's own; choose another"
        )


def _refuse_foreign_files(folder: RunFolder) -> None:
    with first_contact(folder.storage.uri):
        paths = folder.storage.list()
    paths = [path for path in paths if not path.startswith(f"{WORK}/") and not is_clutter(path)]
    if paths:
        raise UsageError(
            f"{folder.storage.uri}: the output folder holds {len(paths)} files that are not a "
            f"run's, such as {paths[0]}; choose an empty one"
        )


def open_run(
    plan: Plan,
    request: InputRequest,
    folder: RunFolder,
    read: Callable[[], Input],
    *,
    update: bool = False,
) -> Run:
    """Plans a run into its folder, or resumes the one that is planned there.

    The caller holds the lease of the folder.

    Args:
        plan: checked plan.
        request: input, for the record.
        folder: run folder that `check_output` accepts.
        read: reads the input and checks that it fits the plan; called only where the run is not
            planned yet, or is planned anew.
        update: whether a run of another recipe, input or version is planned anew, keeping what
            still holds; else it is refused.

    Raises:
        UsageError: the folder holds another run.
    """
    if has_pending_swap(folder):
        swap_in(folder)
    record = RunRecord.find(folder)
    if record is None or not folder.is_planned():
        return _plan_run(plan, request, folder, read(), record, update=update)
    record.check_keys(folder)
    if update:
        run_input = read()
        new = RunRecord.planned(plan, request, run_input)
        update_run(folder, plan, run_input, new=new, previous=record)
        return Run(plan, folder.storage.uri, run_input.base_uri)
    _refuse_changes(folder, record, plan, request)
    # `accept` may have given the run another policy since.
    policy = Policy.model_validate(record.recipe["policy"])
    as_accepted = plan.model_copy(update={"policy": policy})
    return Run(as_accepted, folder.storage.uri, record.base_uri)


def _plan_run(
    plan: Plan,
    request: InputRequest,
    folder: RunFolder,
    run_input: Input,
    record: RunRecord | None,
    *,
    update: bool,
) -> Run:
    """Plans a run that is new, or whose planning was cut short or has been taken back."""
    if record is not None and folder.parts("manifest"):
        _refuse_changes(folder, record, plan, request)
    RunRecord.planned(plan, request, run_input).write(folder)
    counts = write_plan(plan, run_input, folder)
    _reopen_longer_parts(folder, plan)
    if update:
        begin_first_tick(folder, run_input.base_uri, counts.num_rows)
    folder.write_json(PLANNED, {"planned": counts.num_rows, "duplicates": counts.num_duplicates})
    return Run(plan, folder.storage.uri, run_input.base_uri)


def _reopen_longer_parts(folder: RunFolder, plan: Plan) -> None:
    """Reopens parts of the manifest with rows that the plan lacks, and keeps those that it has.

    A damaged plan is written again from its input, without the further tries that it had.
    """
    known = result_schema(plan).names
    for part in sorted({*folder.parts("manifest")} & {*folder.parts("plan")}):
        planned = folder.read_part("plan", part, ["key"])["key"].combine_chunks()
        ended = folder.read_part("manifest", part)
        kept = ended.filter(pc.is_in(ended["key"], planned))
        if kept.num_rows < ended.num_rows:
            names = [name for name in known if name in ended.column_names]
            folder.write_result(part, "kept", kept.select(names))
            folder.storage.remove([part_path("manifest", part)])


def _refuse_changes(
    folder: RunFolder, record: RunRecord, plan: Plan, request: InputRequest
) -> None:
    """Refuses to resume a run with another recipe, input or version than it began with."""
    now = RunRecord.of(plan, request, record.base_uri, is_sharded=record.is_sharded)
    changes = record.differences(now)
    if not changes and not folder.is_finished():
        changes = record.version_differences()
    if changes:
        raise UsageError(
            f"{folder.storage.uri}: the output holds another run (different: "
            f"{', '.join(changes)}); choose another --output, or plan it anew with --update, which "
            "keeps every edit and score that still holds"
        )


def refuse_other_versions(run: Run) -> None:
    """Refuses to do rows of a run again that would have other bytes than those beside them.

    Raises:
        UsageError: a library, or a checkpoint's folder, is not the one that the run was made with.
    """
    record = RunRecord.read(run.folder)
    changes = record.version_differences()
    if record.fingerprint != run.plan.fingerprint():
        changes.append("checkpoint files")
    if changes:
        raise UsageError(
            f"{run.run_uri}: the run was made with others ({', '.join(changes)}); the run's own "
            "command with --update plans it anew, and keeps every edit and score that still holds"
        )
