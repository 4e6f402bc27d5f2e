"""Measurement of some rows of a run, here and now, in place of an estimate."""

import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from overpaint.jobs.runs.execute import SilentDisplay
from overpaint.jobs.runs.prepare import PreparedRun
from overpaint.jobs.runs.run import run
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.costs import CostCounter
from overpaint.pipeline.runs.folder import OBJECT_FOLDERS, STATS, RunFolder
from overpaint.pipeline.runs.manifest import Ledger

_DENOISING = ("forward", "backward", "control")


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows that were run on this machine.

    Attributes:
        num_rows: number of rows.
        ledger: how they ended.
        start_s: seconds until the first task could begin: models were loaded.
        row_s: seconds for a row, between the ends of two tasks.
        written_bytes: size of the images and masks of all rows.
        gpu: name of this machine's GPU; None where it has none.
        planned: evaluations of denoising networks that the plan has for these rows.
        evaluated: those that the loaded models have counted.
    """

    num_rows: int
    ledger: Ledger
    start_s: float
    row_s: float
    written_bytes: int
    gpu: str | None
    planned: Cost
    evaluated: Cost

    @property
    def evaluations_in_words(self) -> str:
        """The evaluations that were counted, and whether they are those of the plan."""
        counted, planned = (str(cost) or "no network" for cost in (self.evaluated, self.planned))
        if self.evaluated == self.planned:
            return f"{counted} evaluations, as planned"
        return (
            f"{counted} evaluations, and the plan has {planned}: a batch that is not full is "
            "filled up with its last row, and a row that ends early is not evaluated further"
        )

    def seconds(self, num_rows: int) -> float:
        """Returns the time that so many rows take here, in one process."""
        return self.start_s + num_rows * self.row_s


class _Clock(SilentDisplay):
    """Display that notes when tasks ended, and how many rows with them."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.ends: list[tuple[float, int]] = []

    def advanced(self, ledger: Ledger, seconds: dict[str, float]) -> None:
        """Notes the end of a task."""
        self.ends.append((time.monotonic() - self.start, ledger.ended))


def measure_sample(prepared: PreparedRun, num_rows: int) -> Sample:
    """Runs the first rows of an input in this process, into a folder that is then removed.

    Args:
        prepared: checked plan and input.
        num_rows: number of rows of the input, more than one batch.

    Raises:
        UsageError: the rows are too few to tell the time of a row from the time to start.
    """
    request, clock = prepared.request, _Clock()
    with tempfile.TemporaryDirectory() as folder:
        result = run(
            _in_small_tasks(prepared.plan),
            input=request.uri,
            output=f"{folder}/run",
            limit=min(num_rows, request.limit or num_rows),
            mapping=request.mapping,
            base_uri=request.base_uri,
            keep=request.keep,
            ray=False,
            display=clock,
        )
        sizes = [result.folder.storage.sizes(name) for name in OBJECT_FOLDERS]
        planned, evaluated = _planned(prepared.plan, result.folder), _evaluated(result.folder)
    if len(clock.ends) == 1:
        raise UsageError(
            f"--sample {num_rows}: one task has all {result.ledger.ended} rows: take more than "
            f"{_in_small_tasks(prepared.plan).task_rows}, so that a start is told from a row"
        )
    start_s, row_s = _start_and_row(clock.ends)
    return Sample(
        num_rows=result.ledger.ended,
        ledger=result.ledger,
        start_s=start_s,
        row_s=row_s,
        written_bytes=sum(sum(one.values()) for one in sizes),
        gpu=_gpu(),
        planned=_denoising(planned.counts()),
        evaluated=_denoising(evaluated),
    )


def _planned(plan: Plan, folder: RunFolder) -> Cost:
    """Returns the evaluations of the rows that a folder's plan has."""
    counter = CostCounter(_in_small_tasks(plan))
    for part in folder.parts("plan"):
        counter.add_part(folder.read_part("plan", part))
    return sum(counter.by_stage().values(), Cost())


def _evaluated(folder: RunFolder) -> dict[str, int]:
    stats: dict[str, Any] = folder.read_json(STATS) or {}
    return stats.get("evaluations", {})


def _denoising(counts: Mapping[str, int]) -> Cost:
    """Returns the evaluations that no memory of a model spares: prompts are embedded once."""
    return Cost(**{kind: counts.get(kind, 0) for kind in _DENOISING})


def _start_and_row(ends: list[tuple[float, int]]) -> tuple[float, float]:
    """Returns the seconds to start and those of a row, from the ends of tasks.

    The first end of several is left out: what a process does once makes it late, while the model
    goes on with the next task.
    """
    (first_s, first_rows), (last_s, rows) = ends[1 if len(ends) > 2 else 0], ends[-1]
    row_s = (last_s - first_s) / (rows - first_rows)
    return max(0.0, first_s - first_rows * row_s), row_s


def _in_small_tasks(plan: Plan) -> Plan:
    """Returns a plan with tasks of one full batch: the fewest rows that show a row's time."""
    largest = max(
        (
            plan.task_rows if stage.finds_batch_size else stage.operator.batch_size
            for stage in plan.stages
            if stage.operator.kind not in ("fetch", "store")
        ),
        default=1,
    )
    return plan.model_copy(update={"task_rows": min(plan.task_rows, largest)})


def _gpu() -> str | None:
    # Only where a model has imported torch: without it no row has used a GPU.
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name())
