"""Sizes of a planned run: tasks, objects and requests to the store, before it is started."""

from typing import Any

import pyarrow as pa
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.tasks import cut

_A_RUN = 20
"""Requests of a run as a whole: its record, lease, probe, report and marks."""


class SizeCounter:
    """Counter of what a run leaves on its store, and asks of it.

    Args:
        plan: plan of the run.
        num_conditions: pictures that are read beside each source.

    Attributes:
        num_rows: rows of the plan.
        num_tasks: tasks.
        num_parts: parts of the plan.
    """

    def __init__(self, plan: Plan, num_conditions: int = 0) -> None:
        self._plan = plan
        self._num_conditions = num_conditions
        self._num_images = len(plan.stored_images())
        self._num_shards = _num_shards(plan) if plan.is_packed else 0
        self.num_rows = self.num_tasks = self.num_parts = 0

    def add_part(self, table: pa.Table) -> None:
        """Counts one part of the plan."""
        groups: list[Any] = table["group_id"].to_pylist()
        self.num_rows += table.num_rows
        self.num_tasks += sum(1 for _ in cut(range(len(groups)), groups, self._plan.task_rows))
        self.num_parts += 1

    @property
    def num_objects(self) -> int:
        """The most objects that stay: images and masks, or their shards; two tables a part."""
        of_rows = 0 if self._num_shards else self.num_rows * self._num_images
        return of_rows + self.num_tasks * self._num_shards + 2 * self.num_parts

    @property
    def num_writes(self) -> int:
        """The most requests that write: objects, a journal a task and group, a result a task."""
        of_tasks = self.num_tasks * (1 + len(self._plan.group_names))
        return self.num_objects + of_tasks + _A_RUN

    @property
    def num_reads(self) -> int:
        """The requests that read: for each file its size and its bytes, results, and parts."""
        files = self.num_rows * (1 + self._num_conditions)
        return 2 * files + 2 * self.num_tasks + 6 * self.num_parts + _A_RUN


def _num_shards(plan: Plan) -> int:
    """Returns how many shards a task writes: one in each group that stores pictures."""
    stored = set(plan.stored_images().values())
    return len({stage.group for stage in plan.stages if stored & set(stage.output_names)})
