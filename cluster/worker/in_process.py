"""Runs tasks in this process, two at a time: no Ray, the same bytes."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from overpaint.cluster.worker.group import GroupWorker
from overpaint.cluster.worker.helpers import TASKS_AT_ONCE, map_ahead
from overpaint.cluster.worker.model_thread import ModelThread
from overpaint.pipeline.runs.run import Run
from overpaint.pipeline.runs.tasks import Task


def run_local(run: Run, tasks: Iterable[Task]) -> Iterator[pa.Table]:
    """Runs tasks, and yields a summary of each task, in order, as it is committed.

    Args:
        run: run whose rows the tasks hold.
        tasks: tasks to run.
    """
    models = ModelThread()
    workers: list[GroupWorker] = []

    def through_all(task: Task) -> pa.Table:
        first, *rest = workers
        table = first.start(task)
        for worker in rest:
            table = worker.proceed(table)
        return table

    threads = ThreadPoolExecutor(TASKS_AT_ONCE, thread_name_prefix="task")
    try:
        for group in run.plan.group_names:
            workers.append(GroupWorker(run, group, models))
        yield from map_ahead(threads, through_all, tasks, TASKS_AT_ONCE)
    finally:
        models.close()
        threads.shutdown(cancel_futures=True)
        for worker in workers:
            worker.close()
