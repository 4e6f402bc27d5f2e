"""Overpaint: a plan of one stage, on Ray."""

from typing import ClassVar

from overpaint.cluster.ray.stream import run_on_ray
from overpaint.jobs.bench.busy_model import Busy
from overpaint.jobs.bench.busy_system import BATCH, Job, System
from overpaint.jobs.runs.execute import SilentDisplay, execute
from overpaint.jobs.runs.open import open_run
from overpaint.pipeline.placement import Placement
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.inputs import InputRequest
from overpaint.pipeline.stage import Stage
from overpaint.pipeline.storage.store import Storage

_TASK_ROWS = 16


class Overpaint(System):
    """A run of a plan: a group with one pool of actors, with all that it guarantees."""

    on_ray: ClassVar[bool] = True

    def run(self, job: Job) -> None:
        """Plans, edits and writes manifest and ledger."""
        request = InputRequest(str(job.source))
        run = open_run(_plan(job), request, RunFolder(Storage(str(job.out))), request.read)
        execute(run, run_on_ray, SilentDisplay())


def _plan(job: Job) -> Plan:
    model = Busy(batch_size=BATCH, batch_ms=job.batch_ms, work=job.work, log=str(job.log))
    return Plan(
        name="busy",
        stages=(Stage(operator=model, group="all"),),
        groups={"all": Placement(num_cpus=1, actors=(job.actors, job.actors))},
        task_rows=_TASK_ROWS,
    )
