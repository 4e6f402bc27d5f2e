"""Where a training reads and writes, and what it begins with."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from overpaint.jobs.training.cache import Cache, Example, open_cache
from overpaint.jobs.training.examples import EVERYTHING, Mixture, scene_example
from overpaint.jobs.training.loop import TrainingConfig

M = TypeVar("M")

_CACHES = "caches"
# Fewer are drawn sooner than a process is started.
_DRAWN_A_PROCESS = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Workspace:
    """Where a training reads and writes, and how much it draws.

    Attributes:
        checkpoints: Folder with one folder a checkpoint; read by checkpoints that build on others.
        state: Folder of the states of runs, each in a folder of its checkpoint's name, and of what
            is drawn, which all trainings share.
        device: Where modules are trained.
        start: Folder of checkpoints with whose weights a training begins; None for fresh ones.
        num_drawn: Training examples drawn; steps pick from them.
        num_tested: Unseen examples for the figures in the log.
        mixture: Scenes of text_to_image; the other checkpoints see all scenes.
        schedule: Replaces the checkpoint's own schedule; None to keep it.
        learning_rate: Replaces the schedule's; None to keep it.
    """

    checkpoints: Path
    state: Path
    device: torch.device
    start: Path | None = None
    num_train: int = 60_000
    num_test: int = 512
    mixture: Mixture = EVERYTHING
    config: TrainingConfig | None = None
    learning_rate: float | None = None

    def initialised(self, built: M, checkpoint: str, part: str = "") -> M:
        """A module as it was built, or the same one of the checkpoint to start from."""
        if self.start is None:
            return built
        kind: Any = type(built)
        return kind.from_pretrained(existing_checkpoint(self.start / checkpoint) / part)

    def configured(self, own: TrainingConfig) -> TrainingConfig:
        """A checkpoint's own schedule, or what replaces it."""
        config = self.config or own
        if self.learning_rate is None:
            return config
        return replace(config, learning_rate=self.learning_rate)

    def cache(self, name: str, draw: Callable[[int], Example], num_examples: int) -> Cache:
        """Examples of a kind, drawn now if they never were."""
        folder = self.state / _CACHES / f"{name}-{num_examples}"
        num_processes = min(os.cpu_count() or 1, 1 + num_examples // _DRAWN_A_PROCESS)
        return open_cache(folder, draw, num_examples, num_processes=num_processes)

    def split(self, name: str, draw: Callable[..., Example]) -> tuple[Cache, Cache]:
        """Examples of a kind to train on, and unseen ones."""
        return (
            self.cache(f"{name}-train", partial(draw, split="train"), self.num_train),
            self.cache(f"{name}-test", partial(draw, split="test"), self.num_test),
        )

    def scenes(self, mixture: Mixture = EVERYTHING) -> tuple[Cache, Cache]:
        """Scenes to train on, and unseen ones."""
        return self.split(f"scenes-{mixture.label}", partial(scene_example, mixture=mixture))

    def encoded(self, name: str, drawn: Cache, encode: Callable[[int], Example]) -> Cache:
        """Latents of cached examples, encoded now if they never were."""
        folder = self.state / _CACHES / f"{name}-{len(drawn)}"
        return open_cache(folder, encode, len(drawn), num_processes=1)


def existing_checkpoint(folder: Path) -> Path:
    """The folder of a checkpoint.

    Raises:
        FileNotFoundError: It is not there.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing; train {folder.name} first")
    return folder


def default_state_folder() -> Path:
    """Where states and drawn examples are kept between runs, outside the repository."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "overpaint" / "training"
