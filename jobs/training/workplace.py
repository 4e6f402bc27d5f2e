"""Where a training reads and writes, and what it begins with."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from overpaint.jobs.training.cache import Cache, Example, open_cache
from overpaint.jobs.training.examples import EVERYTHING, Mixture, scene_example
from overpaint.jobs.training.loop import Schedule

M = TypeVar("M")


@dataclass(frozen=True, kw_only=True, slots=True)
class Workplace:
    """Where a training reads and writes, and how much it draws.

    Attributes:
        checkpoints: Folder with one folder a checkpoint; read by checkpoints that build on others.
        caches: Folder of drawn examples, shared by all trainings.
        device: Where modules are trained.
        start: Folder of checkpoints with whose weights a training begins; None for fresh ones.
        num_drawn: Training examples drawn; steps pick from them.
        num_tested: Unseen examples for the figures in the log.
        num_processes: Processes that draw.
        mixture: Scenes of text_to_image; the other checkpoints see all scenes.
        schedule: Replaces the checkpoint's own schedule; None to keep it.
        learning_rate: Replaces the schedule's; None to keep it.
    """

    checkpoints: Path
    caches: Path
    device: torch.device
    start: Path | None = None
    num_drawn: int = 60_000
    num_tested: int = 512
    num_processes: int = 2
    mixture: Mixture = EVERYTHING
    schedule: Schedule | None = None
    learning_rate: float | None = None

    def begun(self, built: M, checkpoint: str, part: str = "") -> M:
        """A module as it was built, or the same one of the checkpoint to start from."""
        if self.start is None:
            return built
        kind: Any = type(built)
        return kind.from_pretrained(existing(self.start / checkpoint) / part)

    def scheduled(self, own: Schedule) -> Schedule:
        """A checkpoint's own schedule, or what replaces it."""
        schedule = self.schedule or own
        if self.learning_rate is None:
            return schedule
        return replace(schedule, learning_rate=self.learning_rate)

    def cache(self, name: str, draw: Callable[[int], Example], num_examples: int) -> Cache:
        """Examples of a kind, drawn now if they never were."""
        folder = self.caches / f"{name}-{num_examples}"
        return open_cache(folder, draw, num_examples, num_processes=self.num_processes)

    def split(self, name: str, draw: Callable[..., Example]) -> tuple[Cache, Cache]:
        """Examples of a kind to train on, and unseen ones."""
        return (
            self.cache(f"{name}-train", partial(draw, split="train"), self.num_drawn),
            self.cache(f"{name}-test", partial(draw, split="test"), self.num_tested),
        )

    def scenes(self, mixture: Mixture = EVERYTHING) -> tuple[Cache, Cache]:
        """Scenes to train on, and unseen ones."""
        return self.split(f"scenes-{mixture.label}", partial(scene_example, mixture=mixture))

    def encoded(self, name: str, drawn: Cache, encode: Callable[[int], Example]) -> Cache:
        """Latents of cached examples, encoded now if they never were."""
        folder = self.caches / f"{name}-{len(drawn)}"
        return open_cache(folder, encode, len(drawn), num_processes=1)


def existing(folder: Path) -> Path:
    """The folder of a checkpoint.

    Raises:
        FileNotFoundError: It is not there.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing; train {folder.name} first")
    return folder
