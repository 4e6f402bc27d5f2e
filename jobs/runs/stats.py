"""Statistics of a run (`stats.json`): counts, times, hosts, added up over its sessions."""

import platform
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from overpaint.cluster.worker.group import StageStats
from overpaint.pipeline.errors import StoppedError
from overpaint.pipeline.runs.folder import STATS, RunFolder
from overpaint.pipeline.runs.manifest import Ledger
from overpaint.pipeline.runs.record import current_versions


@dataclass
class Progress:
    """Counts and times of one session of a run, while it goes on.

    Attributes:
        ledger: counts of the run's rows, with those of earlier sessions.
        seconds: seconds of this session by stage.
        oom_fallbacks: fallbacks that stages took for lack of memory, by stage.
        notes: what stages have found out, by stage.
        rows: rows that ended in this session.
        num_tasks: tasks that were committed in this session.
        gpu_seconds: seconds for which actors have reserved GPUs in this session, times their share.
        evaluations: network evaluations that models have counted in this session, by kind.
        budget_gpu_hours: hours of reserved GPUs after which the session is to end.
        started_at: time at which the session started.
    """

    ledger: Ledger
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    oom_fallbacks: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    notes: dict[str, Any] = field(default_factory=dict[str, Any])
    rows: int = 0
    num_tasks: int = 0
    gpu_seconds: float = 0.0
    evaluations: Counter[str] = field(default_factory=Counter[str])
    budget_gpu_hours: float | None = None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _start_s: float = field(default_factory=time.monotonic)

    def add(self, summary: dict[str, Any]) -> int:
        """Counts a task by its summary; returns its number of rows."""
        counts = Ledger(0, *(summary[name] for name in ("accepted", "rejected", "failed")))
        stats = StageStats.from_json(summary["stats_json"])
        self.ledger = self.ledger.plus(counts)
        self.rows += counts.ended
        self.num_tasks += 1
        self.gpu_seconds += stats.gpu_seconds
        for stage, taken in stats.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + taken
        for stage, fallbacks in stats.oom_fallbacks.items():
            everywhere = [*self.oom_fallbacks.get(stage, []), *fallbacks]
            self.oom_fallbacks[stage] = list(dict.fromkeys(everywhere))
        self.evaluations.update(stats.evaluations)
        self.notes |= stats.notes
        return counts.ended

    def check_budget(self) -> None:
        """Ends the session once its budget is spent.

        Raises:
            StoppedError: it is.
        """
        spent = self.gpu_seconds / 3600
        if self.budget_gpu_hours is not None and spent >= self.budget_gpu_hours:
            raise StoppedError(
                f"stopped: {spent:.3g} GPU-hours are spent, which is the budget; "
                f"{self.ledger.pending} rows are pending, the same command goes on"
            )

    def write(self, folder: RunFolder) -> None:
        """Adds the session to the statistics in a run folder."""
        wall_s = time.monotonic() - self._start_s
        before: dict[str, Any] = folder.read_json(STATS) or {}
        fallbacks = {**before.get("oom_fallbacks", {}), **self.oom_fallbacks}
        notes = {**before.get("notes", {}), **self.notes}
        evaluations = Counter(before.get("evaluations", {})) + self.evaluations
        started_at = self.started_at.isoformat(timespec="seconds")
        folder.write_json(
            STATS,
            {
                "ledger": self.ledger.as_json(),
                "stages": self._stages(before.get("stages", {})),
                "oom_fallbacks": fallbacks,
                **({"notes": notes} if notes else {}),
                **({"evaluations": dict(evaluations)} if evaluations else {}),
                "gpu_hours": round(before.get("gpu_hours", 0.0) + self.gpu_seconds / 3600, 6),
                "wall_s": round(before.get("wall_s", 0.0) + wall_s, 3),
                "rows_per_s": round(self.rows / wall_s, 3) if wall_s else None,
                "num_tasks": before.get("num_tasks", 0) + self.num_tasks,
                "num_sessions": before.get("num_sessions", 0) + 1,
                "started_at": before.get("started_at", started_at),
                "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "versions": current_versions(),
                "hosts": sorted({*before.get("hosts", []), platform.node()}),
            },
        )

    def _stages(self, before: dict[str, Any]) -> dict[str, Any]:
        stages = dict(before)
        for stage, seconds in self.seconds.items():
            old = stages.get(stage, {"seconds": 0.0, "rows": 0})
            total_s = round(old["seconds"] + seconds, 3)
            stages[stage] = {"seconds": total_s, "rows": old["rows"] + self.rows}
        return stages
