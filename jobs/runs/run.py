"""Running a plan over an input, from Python and from the command line."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from overpaint.cluster.ray.placement import check_fits, local_machine
from overpaint.cluster.ray.session import Session
from overpaint.jobs.report.cuts import CutPrompts
from overpaint.jobs.report.report import ManifestSummary
from overpaint.jobs.report.truth import Success
from overpaint.jobs.runs.batch_sizes import has_open_sizes, with_found_sizes, with_recorded_sizes
from overpaint.jobs.runs.execute import (
    Display,
    SilentDisplay,
    connected_probe,
    connected_runner,
    execute,
)
from overpaint.jobs.runs.open import check_output, open_run
from overpaint.jobs.runs.prepare import PreparedRun, named_errors, prepare
from overpaint.jobs.runs.sources import check_sources
from overpaint.jobs.runs.ticks import Tick, read_ticks
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.folder import RunFolder, Where
from overpaint.pipeline.runs.inputs import InputRequest
from overpaint.pipeline.runs.lease import acquire_lease, check_idle
from overpaint.pipeline.runs.manifest import Ledger


@dataclass(frozen=True, slots=True)
class RunResult:
    """Finished run.

    Attributes:
        folder: run folder.
        ledger: counts of the rows: accepted, rejected, failed.
        success: success against the truth, of `all` rows and by edit type; empty where the plan
            does not measure it.
        cut_prompts: rows with prompts that a text encoder does not see whole, by the column that
            tells it; empty where there are none.
        error_codes: numbers of failed rows by their code, the most frequent first.
        tick: what the last update found new and changed; None of a run that was never updated.
    """

    folder: RunFolder
    ledger: Ledger
    success: Mapping[str, Success]
    cut_prompts: Mapping[str, CutPrompts]
    error_codes: Mapping[str, int]
    tick: Tick | None = None

    @classmethod
    def of(cls, folder: RunFolder, summary: ManifestSummary) -> "RunResult":
        """Returns the result of a run whose manifest has been summarised."""
        codes = summary.endings.error_codes()
        ticks = read_ticks(folder)
        return cls(
            folder,
            summary.ledger,
            summary.success.named(),
            summary.cuts.found,
            codes,
            ticks[-1] if ticks else None,
        )

    @property
    def uri(self) -> str:
        """The URI of the run folder."""
        return self.folder.storage.uri

    def rows(
        self, columns: Sequence[str] | None = None, where: Where | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yields rows of the manifest, in order.

        Args:
            columns: names of the columns to read; None for all.
            where: which rows, such as `{"status": "accepted"}`; None for all.
        """
        return self.folder.rows(columns, where)


def run(
    recipe: Plan | str,
    *,
    input: str,
    output: str,
    limit: int | None = None,
    settings: Sequence[str] = (),
    mapping: Mapping[str, str] | None = None,
    base_uri: str | None = None,
    keep: Sequence[str] = (),
    update: bool = False,
    if_idle: bool = False,
    budget_gpu_hours: float | None = None,
    ray: bool = True,
    session: Session | None = None,
    display: Display | None = None,
) -> RunResult:
    """Edits a dataset; the same call goes on with a run that stopped.

    Args:
        recipe: plan, or path or name of a recipe.
        input: folder or prefix of images, table with `source_uri`, or folder of another run.
        output: run folder: a local path or any fsspec URL.
        limit: rows to take from the front of the input; None for all.
        settings: `stage.field=value` changes of the recipe.
        mapping: new names of columns, by their names in the table.
        base_uri: folder or prefix that relative sources are relative to; None for the input's own.
        keep: names of columns of bytes that are carried along.
        update: whether a run of another recipe, input or version in `output` is planned anew,
            keeping what still holds; else it is refused.
        if_idle: whether a run at which another runner is at work is refused at once; else the
            other's heartbeat is watched first, so that one that died is taken over sooner.
        budget_gpu_hours: hours of reserved GPUs after which this session ends; None for no limit.
        ray: whether rows run on Ray; else in this process.
        session: Ray cluster, or resources of a local one; None for `RAY_ADDRESS` or the machine.
        display: shows how the run goes; None shows nothing.

    Returns:
        The finished run.

    Raises:
        UsageError: recipe, input or an option is wrong; nothing was started.
        BusyError: another runner is at work on the run.
        StoppedError: the run stopped early, or spent its budget; the same call goes on.
        BudgetError: more rows failed than the budget allows.

    Example:
        >>> from overpaint.jobs import run
        >>> result = run("demo", input="photos", output="demo-run", ray=False)
        >>> result.ledger.accepted, [row["edited_uri"] for row in result.rows()]
    """
    request = InputRequest(input, limit, mapping or {}, base_uri, tuple(keep))
    folder = RunFolder.at(output)
    if if_idle:
        check_idle(folder)
    prepared = prepare(recipe, request, settings)
    if budget_gpu_hours is not None:
        with named_errors(prepared.label):
            _check_budget(prepared.plan)
    session = (session or Session()) if ray else None
    if session is not None and session.cluster_address is None:
        with named_errors(prepared.label):
            check_fits(prepared.plan, [local_machine(session)])
    check_output(folder, request)
    display = display or SilentDisplay()
    _check_input(prepared, folder, display, update=update)
    with acquire_lease(folder, at_once=if_idle), ExitStack() as ray_stack:
        plan = with_recorded_sizes(prepared.plan, folder)
        if has_open_sizes(plan):
            probe = ray_stack.enter_context(connected_probe(plan, session))
            plan = with_found_sizes(plan, prepared.input, folder, probe, display.noted)
        opened = open_run(plan, request, folder, lambda: prepared.input, update=update)
        with display as shown, connected_runner(opened.plan, session) as runner:
            summary = execute(opened, runner, shown, budget_gpu_hours=budget_gpu_hours)
    return RunResult.of(folder, summary)


def _check_budget(plan: Plan) -> None:
    """Refuses a budget that no run of a plan could spend."""
    if not any(plan.placement(group).num_gpus for group in plan.group_names):
        raise UsageError("--budget-gpu-hours: no group reserves a GPU: give one num_gpus")


def _check_input(
    prepared: PreparedRun, folder: RunFolder, display: Display, *, update: bool
) -> None:
    """Reads the input where it will be planned: its errors rise before anything is written."""
    is_planned = folder.is_planned()
    if update or not is_planned:
        for note in prepared.notes:
            display.noted(note)
    if not is_planned:
        check_sources(prepared.plan, prepared.input)
