"""Value that every part of a run shares: its plan, its folder and the base of its sources."""

from dataclasses import dataclass
from typing import Any

from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.storage.store import Storage


@dataclass(frozen=True)
class Run:
    """Plan over the rows that a run folder holds; sent to every actor.

    Attributes:
        plan: stages to run.
        run_uri: run folder.
        base_uri: folder or prefix that relative sources are relative to.
        cached_parts: plan parts with rows whose outputs an update has kept.
        idle_stages: names of stages that no row is expected to need: their models are not loaded.
    """

    plan: Plan
    run_uri: str
    base_uri: str
    cached_parts: frozenset[int] = frozenset()
    idle_stages: frozenset[str] = frozenset()

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        return RunFolder(Storage(self.run_uri))

    @property
    def constants(self) -> dict[str, Any]:
        """The columns that are equal in every row."""
        return {
            "base_uri": self.base_uri,
            "run_uri": self.run_uri,
            "image_format": self.plan.image_format,
            "is_packed": self.plan.is_packed,
        }
