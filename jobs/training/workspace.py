"""Folders and inputs of a training: checkpoints, saved states, cached examples."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from overpaint.jobs.training.cache import Cache, Example, open_cache
from overpaint.jobs.training.examples import EVERYTHING, Mixture, scene_example
from overpaint.jobs.training.task import TrainingConfig

M = TypeVar("M")

_CACHES = "caches"
# Drawing fewer examples takes less time than starting a process.
_EXAMPLES_A_PROCESS = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Workspace:
    """Folders of a training, and the settings that decide its inputs.

    Attributes:
        checkpoints: folder with one folder for each checkpoint, those to build on among them.
        state: folder of saved states, one folder for each checkpoint, and of the cached examples,
            which all trainings share.
        device: device of the trained modules.
        start: folder of checkpoints whose weights a training starts from; None for random weights.
        num_train: number of training examples to draw.
        num_test: number of test examples for the metrics in the log.
        mixture: scenes of text_to_image; other checkpoints are trained on all scenes.
        config: hyperparameters in place of the checkpoint's own; None to keep those.
        learning_rate: peak learning rate in place of that of the hyperparameters; None to keep it.
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

    def initialised(self, module: M, checkpoint: str, subfolder: str = "") -> M:
        """Returns a module with the weights to start from: `start`'s where it is set, else its own.

        Args:
            module: transformers or diffusers model.
            checkpoint: name of the checkpoint that the module belongs to.
            subfolder: folder of the module in that of the checkpoint.
        """
        if self.start is None:
            return module
        kind: Any = type(module)
        return kind.from_pretrained(_existing(self.start / checkpoint) / subfolder)

    def base(self, checkpoint: str) -> Path:
        """Returns the folder of a checkpoint that another one builds on.

        Raises:
            FileNotFoundError: the folder is missing.
        """
        return _existing(self.checkpoints / checkpoint)

    def configured(self, default: TrainingConfig) -> TrainingConfig:
        """Returns a checkpoint's hyperparameters: the workspace's where set, else the default."""
        config = self.config or default
        if self.learning_rate is None:
            return config
        return replace(config, learning_rate=self.learning_rate)

    def cache(self, name: str, draw: Callable[[int], Example], num_examples: int) -> Cache:
        """Opens a cache of examples, and draws it first if it does not exist."""
        folder = self.state / _CACHES / f"{name}-{num_examples}"
        num_processes = min(os.cpu_count() or 1, 1 + num_examples // _EXAMPLES_A_PROCESS)
        return open_cache(folder, draw, num_examples, num_processes=num_processes)

    def split(self, name: str, draw: Callable[..., Example]) -> tuple[Cache, Cache]:
        """Opens the training and the test examples of a kind."""
        return (
            self.cache(f"{name}-train", partial(draw, split="train"), self.num_train),
            self.cache(f"{name}-test", partial(draw, split="test"), self.num_test),
        )

    def scenes(self, mixture: Mixture = EVERYTHING) -> tuple[Cache, Cache]:
        """Opens the training and the test scenes of a mixture."""
        return self.split(f"scenes-{mixture.label}", partial(scene_example, mixture=mixture))

    def encoded(self, name: str, drawn: Cache, encode: Callable[[int], Example]) -> Cache:
        """Opens the latents of cached examples, and encodes them first if they do not exist."""
        folder = self.state / _CACHES / f"{name}-{len(drawn)}"
        return open_cache(folder, encode, len(drawn), num_processes=1)


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing; train {folder.name} first")
    return folder


def default_state_folder() -> Path:
    """Returns the folder of saved states and cached examples, outside the repository."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "overpaint" / "training"
