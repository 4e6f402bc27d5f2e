"""Runs tasks in this process, one group after the other: no Ray, the same bytes."""

from collections.abc import Iterable, Iterator

import pyarrow as pa
from overpaint.cluster.worker.group import GroupWorker
from overpaint.pipeline.runs.run import Run
from overpaint.pipeline.runs.tasks import Task


def run_local(run: Run, tasks: Iterable[Task]) -> Iterator[pa.Table]:
    """Runs tasks, and yields a summary of each task as it is committed.

    Args:
        run: run whose rows the tasks hold.
        tasks: tasks to run.
    """
    first, *rest = (GroupWorker(run, group) for group in run.plan.group_names)
    for task in tasks:
        table = first.start(task)
        for worker in rest:
            table = worker.proceed(table)
        yield table
