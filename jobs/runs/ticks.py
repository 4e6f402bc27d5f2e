"""Ticks of a scheduled run: what was new, changed and gone each time, and what came of it.

A run that is updated again and again keeps `ticks.json`: one entry a tick, the latest last.
"""

from datetime import UTC, datetime
from typing import Any

from overpaint.pipeline.runs.folder import STATS, WORK, RunFolder
from overpaint.pipeline.runs.manifest import Ledger
from pydantic import BaseModel, ConfigDict

TICKS = "ticks.json"
BEGUN = f"{WORK}/tick.json"
"""Counts of a tick that has been planned and has not ended."""


class Tick(BaseModel):
    """Entry of `ticks.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    number: int = 0
    """Number of the tick, from 1."""
    planned_at: str
    """Time at which it was planned, in UTC."""
    new: int = 0
    """Rows that the tick before did not have."""
    changed: int = 0
    """Rows whose source was replaced under its own name."""
    gone: int = 0
    """Rows that the input no longer asks for, whose edits were removed."""
    again: int = 0
    """Other rows that were taken up again: failed ones, and those whose stages have changed."""
    accepted: int = 0
    """Accepted rows of the whole run."""
    rejected: int = 0
    """Rejected rows of the whole run."""
    failed: int = 0
    """Failed rows of the whole run."""
    work_s: float = 0.0
    """Seconds of work of all stages in this tick."""
    gpu_hours: float = 0.0
    """Hours for which GPUs were reserved in this tick."""
    work_s_before: float = 0.0
    """Seconds of work of all ticks before."""
    gpu_hours_before: float = 0.0
    """Hours of GPUs of all ticks before."""

    def ended(self, number: int, ledger: Ledger, stats: dict[str, Any]) -> "Tick":
        """Returns the entry of a tick that has ended.

        Args:
            number: number of the tick.
            ledger: counts of the run.
            stats: statistics of the run, all ticks together.
        """
        return self.model_copy(
            update={
                "number": number,
                "accepted": ledger.accepted,
                "rejected": ledger.rejected,
                "failed": ledger.failed,
                "work_s": round(work_s(stats) - self.work_s_before, 3),
                "gpu_hours": round(gpu_hours(stats) - self.gpu_hours_before, 6),
            }
        )

    def in_words(self) -> str:
        """Returns the tick as a sentence."""
        gpus = f", {self.gpu_hours:.3g} GPU-hours" if self.gpu_hours else ""
        again = f", {self.again} taken up again" if self.again else ""
        return (
            f"tick {self.number}: {self.new} new, {self.changed} changed, {self.gone} gone{again}; "
            f"{self.accepted} accepted, {self.rejected} rejected and {self.failed} failed in all; "
            f"{self.work_s:.1f} s of work{gpus}"
        )


def begin_tick(
    folder: RunFolder, *, new: int, changed: int = 0, gone: int = 0, again: int = 0
) -> dict[str, Any]:
    """Returns the counts of a tick that is planned, to be written to `BEGUN`.

    Args:
        folder: run folder, with the statistics of the ticks before.
        new: see `Tick`.
        changed: see `Tick`.
        gone: see `Tick`.
        again: see `Tick`.
    """
    stats = folder.read_json(STATS) or {}
    # A tick that was stopped early and planned anew is one tick.
    stopped = folder.read_json(BEGUN) or {}
    tick = Tick(
        planned_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        new=new + stopped.get("new", 0),
        changed=changed + stopped.get("changed", 0),
        gone=gone + stopped.get("gone", 0),
        again=again,
        work_s_before=stopped.get("work_s_before", work_s(stats)),
        gpu_hours_before=stopped.get("gpu_hours_before", gpu_hours(stats)),
    )
    return tick.model_dump(mode="json")


def end_tick(folder: RunFolder, ledger: Ledger) -> None:
    """Adds the tick under way, if there is one, to `ticks.json`."""
    begun = folder.read_json(BEGUN)
    if begun is None:
        return
    earlier = [tick.model_dump(mode="json") for tick in read_ticks(folder)]
    # A runner that was killed right here has written the entry already.
    if not earlier or earlier[-1]["planned_at"] != begun["planned_at"]:
        tick = Tick(**begun).ended(len(earlier) + 1, ledger, folder.read_json(STATS) or {})
        folder.write_json(TICKS, [*earlier, tick.model_dump(mode="json")])
    folder.storage.remove([BEGUN])


def read_ticks(folder: RunFolder) -> list[Tick]:
    """Reads the ticks of a run, the latest last; none of a run that was never updated."""
    return [Tick.model_validate(entry) for entry in folder.read_json(TICKS) or []]


def work_s(stats: dict[str, Any]) -> float:
    """Returns the seconds of work of all stages, by the statistics of a run."""
    stages: dict[str, dict[str, float]] = stats.get("stages") or {}
    return sum(stage["seconds"] for stage in stages.values())


def gpu_hours(stats: dict[str, Any]) -> float:
    """Returns the hours for which GPUs were reserved, by the statistics of a run."""
    return float(stats.get("gpu_hours") or 0.0)
