"""Stream of tasks on Ray Data, with one autoscaling pool of actors for each group.

Each block of the stream holds one row and that row holds one task, so that Ray neither splits a
task nor bundles two: a task's number of rows decides what is lost with an actor, nothing else does.
"""

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import ray
from overpaint.cluster.ray.metrics import ActorMetrics, exporting_queue
from overpaint.cluster.ray.scheduling import ray_options
from overpaint.cluster.worker import logs
from overpaint.cluster.worker.group import GroupWorker
from overpaint.cluster.worker.helpers import TASKS_AT_ONCE
from overpaint.pipeline.errors import StoppedError
from overpaint.pipeline.placement import Placement
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.run import Run
from overpaint.pipeline.runs.tasks import Task
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError, RayTaskError

_TASK = pa.schema([("part", pa.int32()), ("rows", pa.list_(pa.int32()))])
_PAYLOAD = pa.schema([("payload", pa.large_binary())])
_BLOCK_TASKS = 4096
_LEAST_PATIENCE_S = 3600.0
_STOPPED = f"{StoppedError.__module__}.{StoppedError.__qualname__}: "


def run_on_ray(run: Run, tasks: Sequence[Task]) -> Iterator[pa.Table]:
    """Yields a summary of each task as it is committed; Ray must be connected.

    Raises:
        StoppedError: the store does not answer or takes no writes, a model cannot be loaded, or Ray
            gives up.
    """
    if not tasks:
        return
    with _context(_patience_s(run.plan)):
        stream: Any = _stream(run, tasks)
        batches = stream.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        try:
            yield from exporting_queue(run.plan.name, len(tasks), batches)
        except RayTaskError as error:
            # Ray's own error holds the trace of its machinery as its text.
            if isinstance(error.cause, StoppedError):
                raise error.cause from None
            raise
        except (RayError, ExecutionTimeoutError) as error:
            raise StoppedError(_last_line(error)) from None


def _patience_s(plan: Plan) -> float:
    """Returns how long no task may end: one whose rows all take their time is not a standstill."""
    task_s = plan.limits.row_timeout_s * plan.task_rows * len(plan.group_names)
    return max(_LEAST_PATIENCE_S, task_s)


def _last_line(error: Exception) -> str:
    """Returns the last line of an error: Ray puts the stack trace of its machinery before it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip().removeprefix(_STOPPED) if lines else type(error).__name__


@contextmanager
def _context(patience_s: float) -> Generator[None]:
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = patience_s
    context.raise_original_map_exception = True
    # A share of the calls that a pool's actors could take: above it, the pool grows by two thirds.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 0.6
    # One flaky start (a slow disk, a lost node) must not end the run; Ray's default is none.
    context.max_consecutive_actor_init_deaths = 3
    # Errors are raised as well.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    with DataContext.current(context):
        yield


def _stream(run: Run, tasks: Sequence[Task]) -> Dataset:
    # Taken apart as the stream goes: a block for each task would cost the driver 3 ms and 50 KB
    # apiece before the first row is edited, which is minutes and gigabytes at a million rows.
    starts = range(0, len(tasks), _BLOCK_TASKS)
    blocks: list[Any] = [_task_table(tasks[start : start + _BLOCK_TASKS]) for start in starts]
    stream = ray.data.from_arrow(blocks).repartition(target_num_rows_per_block=1)
    names = run.plan.group_names
    for name in names:
        placement = run.plan.placement(name)
        stream = stream.map_batches(
            _Actor,
            fn_constructor_kwargs={"run": run, "group": name},
            batch_size=1,
            batch_format="pyarrow",
            compute=_pool(placement, len(tasks)),
            **ray_options(placement),
        )
    return stream


def _pool(placement: Placement, num_tasks: int) -> ActorPoolStrategy:
    fewest, most = placement.actors
    # An actor without a task would load its models for nothing.
    most = min(most, num_tasks)
    return ActorPoolStrategy(
        min_size=min(fewest, most),
        max_size=most,
        max_concurrent_calls_per_actor=TASKS_AT_ONCE,
        # No third task waits at an actor: at the end another actor would have none.
        max_tasks_in_flight_per_actor=TASKS_AT_ONCE,
        enable_true_multi_threading=True,
    )


def _task_table(tasks: Sequence[Task]) -> pa.Table:
    rows = [{"part": task.part, "rows": list(task.rows)} for task in tasks]
    return pa.Table.from_pylist(rows, _TASK)


class _Actor:
    """Stages of one group, as Ray Data calls them."""

    def __init__(self, run: Run, group: str) -> None:
        logs.turn_on()
        self._worker = GroupWorker(run, group, observer=ActorMetrics())
        self._is_last = group == run.plan.group_names[-1]

    def __call__(self, batch: pa.Table) -> pa.Table:
        row: dict[str, Any] = batch.to_pylist()[0]
        if "payload" in row:
            table = self._worker.proceed(pa.ipc.open_stream(row["payload"]).read_all())
        else:
            table = self._worker.start(Task(row["part"], tuple(row["rows"])))
        return table if self._is_last else _packed(table)


def _packed(table: pa.Table) -> pa.Table:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.Table.from_pylist([{"payload": sink.getvalue().to_pybytes()}], _PAYLOAD)
