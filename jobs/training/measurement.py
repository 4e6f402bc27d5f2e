"""Contract of the measures of checkpoints: their inputs and results."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from overpaint.jobs.training.cache import Cache, Example, open_cache
from PIL import Image

NUM_SHOWN = 12
"""Number of scenes in a row of a sample sheet."""
_CPU = torch.device("cpu")


class Measurement(NamedTuple):
    """Result of one measure.

    Attributes:
        figures: values by name.
        sheet: sample sheet of the first scenes.
    """

    figures: dict[str, float]
    sheet: Image.Image


class EvalContext(NamedTuple):
    """Folders, device and number of scenes of an evaluation.

    Attributes:
        checkpoints: folder with one folder for each checkpoint.
        caches: folder of the cached test scenes.
        num_scenes: number of test scenes.
        device: device of the models.
    """

    checkpoints: Path
    caches: Path
    num_scenes: int = 512
    device: torch.device = _CPU

    def test_examples(self, name: str, draw_example: Callable[..., Example]) -> Cache:
        """Opens the test examples of a kind, and draws them first if they do not exist."""
        return open_cache(
            self.caches / f"{name}-test-{self.num_scenes}",
            partial(draw_example, split="test"),
            self.num_scenes,
            num_processes=1,
        )

    def loaded(self, model: Any) -> Any:
        """Moves a model to the device, for inference."""
        return model.to(self.device).eval()
