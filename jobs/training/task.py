"""Contract between a checkpoint in training and the loop that trains it.

A `TrainingTask` brings modules, a loss, an export and validation; the loop (`loop.run_training`)
brings the optimizer, EMA weights, saved state and log. What a step draws depends on the seed and
the step alone: its randomness comes from its `StepContext` and from PyTorch's default generators,
which the loop seeds before each step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from overpaint.jobs.training import pictures
from overpaint.jobs.training.cache import Cache
from PIL import Image
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """Hyperparameters of a training, apart from its loss.

    Attributes:
        batch_size: examples a step.
        learning_rate: peak of the learning rate: linear warm-up, then a cosine to `final_rate`.
        final_rate: last learning rate as a fraction of the peak.
        warmup_steps: steps from zero to the peak.
        weight_decay: weight decay of AdamW.
        ema_decay: decay of the EMA weights, which are the ones exported.
        steps: length of a run without a budget; meant for a GPU.
        save_every_s: seconds between saved states and exports.
    """

    batch_size: int = 32
    learning_rate: float = 1e-3
    final_rate: float = 0.02
    warmup_steps: int = 100
    weight_decay: float = 0.01
    ema_decay: float = 0.998
    steps: int = 20_000
    save_every_s: float = 240.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Batch of cached examples.

    Attributes:
        cache: examples that the batch is from.
        indices: positions of the batch's examples in the cache, ascending.
        device: device of the tensors.
    """

    cache: Cache
    indices: NDArray[np.int64]
    device: torch.device

    def images(self, name: str = "image") -> Tensor:
        """Returns an array of images (RGB uint8 NHWC) as float NCHW, -1 to 1."""
        return pictures.to_tensor(self.cache.arrays[name][self.indices], self.device)

    def floats(self, name: str) -> Tensor:
        """Returns an array of numbers as float32."""
        return torch.from_numpy(self.cache.arrays[name][self.indices]).to(self.device).float()

    def masks(self, name: str = "mask") -> Tensor:
        """Returns an array of masks (uint8 NHW, 0 or 255) as float32 NHW, 0 or 1."""
        masks = self.cache.arrays[name][self.indices] > 127
        return torch.from_numpy(masks).to(self.device).float()


class StepContext(NamedTuple):
    """Position of a step in its run, and the randomness of its batch.

    Attributes:
        step: number of the step, from 0.
        progress: fraction of the run's budget that is used, 0 to 1.
        rng: randomness of what is drawn.
        device: device of the trained modules.
    """

    step: int
    progress: float
    rng: np.random.Generator
    device: torch.device

    def sample_batch(
        self,
        cache: Cache,
        size: int,
        *,
        candidates: NDArray[np.int64] | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> Batch:
        """Draws examples of a cache with replacement.

        Args:
            cache: examples to draw from.
            size: number of examples.
            candidates: indices to choose from; None for all.
            weights: probability of each candidate, summing to 1; None for equal ones.
        """
        choose_from = len(cache) if candidates is None else candidates
        indices = np.sort(self.rng.choice(choose_from, size=size, p=weights))
        return Batch(cache, indices, self.device)


class TrainingTask(Protocol):
    """Checkpoint in training: modules, loss, export and validation."""

    @property
    def name(self) -> str:
        """Name of the checkpoint and of its folder."""
        ...

    @property
    def config(self) -> TrainingConfig:
        """Hyperparameters."""
        ...

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Trained modules, by the name under which the saved state keeps them."""
        ...

    def loss(self, context: StepContext) -> Tensor:
        """Returns the loss of one batch, drawn with the context's `rng`."""
        ...

    def export(self, folder: Path) -> None:
        """Writes the checkpoint in its standard folder layout, as fp16 safetensors."""
        ...

    def validation_metrics(self, device: torch.device) -> dict[str, float]:
        """Returns metrics on a few test scenes that are cheap enough for the log."""
        ...

    def sample_sheet(self, device: torch.device) -> Image.Image:
        """Draws a picture that shows outputs of the checkpoint on test scenes."""
        ...
