"""Report of a task that has ended in a group: for metrics and logs, and for nothing that counts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TaskReport:
    """Figures of one task in one group.

    Attributes:
        run: name of the run's recipe.
        group: name of the group.
        part: number of the plan part.
        task: name of the task, which is that of its result file.
        num_rows: number of its rows.
        by_status: rows by how they ended; empty before the last group.
        seconds: seconds of work by stage.
        num_attempts: earlier attempts that crashed their worker.
        oom_fallbacks: fallbacks in force after a lack of memory, by stage.
        busy_share: share of the time since the actor's task before in which its models were at
            work.
    """

    run: str
    group: str
    part: int
    task: str
    num_rows: int
    by_status: Mapping[str, int] = field(default_factory=dict[str, int])
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    num_attempts: int = 0
    oom_fallbacks: Mapping[str, list[str]] = field(default_factory=dict[str, list[str]])
    busy_share: float = 0.0


Observer = Callable[[TaskReport], None]
"""Function that is told of each task that ends."""
