"""Metrics of a run, through Ray's own exporter: beside Ray's on every node, for Prometheus.

`overpaint render grafana` writes a dashboard of them. Labels are the recipe's name, group, stage
and status; never a row.
"""

from collections import Counter as Counts
from collections.abc import Iterable, Iterator
from typing import TypeVar

from overpaint.cluster.worker.task_report import TaskReport
from ray.util.metrics import Counter, Gauge, Histogram

T = TypeVar("T")

_SECONDS = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]
"""Bounds of the histogram of a row's seconds."""


class ActorMetrics:
    """Metrics that one actor exports; called with the report of each task."""

    def __init__(self) -> None:
        self._rows = Counter("overpaint_rows", "Rows that ended.", ("run", "status"))
        self._tasks = Counter("overpaint_tasks", "Tasks that ended.", ("run", "group"))
        self._seconds = Counter("overpaint_stage_seconds", "Seconds of work.", ("run", "stage"))
        self._row_seconds = Histogram(
            "overpaint_row_seconds", "Seconds of work for a row.", _SECONDS, ("run", "stage")
        )
        self._retries = Counter(
            "overpaint_retried_tasks", "Tasks whose worker had died in them.", ("run", "group")
        )
        self._memory = Counter(
            "overpaint_oom_fallbacks", "Fallbacks for lack of memory.", ("run", "stage", "fallback")
        )
        self._busy = Gauge(
            "overpaint_models_busy_share",
            "Share of the time in which an actor's models are at work.",
            ("run", "group"),
        )
        self._known = Counts[tuple[str, str]]()

    def __call__(self, report: TaskReport) -> None:
        """Exports the figures of a task."""
        of_group = {"run": report.run, "group": report.group}
        self._tasks.inc(1, of_group)
        self._busy.set(report.busy_share, of_group)
        for status, number in report.by_status.items():
            if number:
                self._rows.inc(number, {"run": report.run, "status": status})
        for stage, seconds in report.seconds.items():
            if seconds > 0:
                self._seconds.inc(seconds, {"run": report.run, "stage": stage})
                each = seconds / max(1, report.num_rows)
                self._row_seconds.observe(each, {"run": report.run, "stage": stage})
        if report.num_attempts:
            self._retries.inc(1, of_group)
        for stage, fallbacks in report.oom_fallbacks.items():
            for fallback in fallbacks[self._known[report.run, stage] :]:
                self._memory.inc(1, {"run": report.run, "stage": stage, "fallback": fallback})
            self._known[report.run, stage] = len(fallbacks)


def exporting_queue(run: str, num_tasks: int, ended: Iterable[T]) -> Iterator[T]:
    """Yields what is given, and exports how many tasks have not ended yet.

    Args:
        run: name of the run's recipe.
        num_tasks: number of tasks that there are.
        ended: one item for each task that ends.
    """
    queue = Gauge("overpaint_tasks_pending", "Tasks that have not ended.", ("run",))
    queue.set(num_tasks, {"run": run})
    for number, item in enumerate(ended, 1):
        queue.set(num_tasks - number, {"run": run})
        yield item
