"""Masks by DiffEdit (arXiv 2210.11427): where noise predictions differ under two prompts."""

from typing import TYPE_CHECKING

from overpaint.operators.controls.latent_finder import LatentFinder
from overpaint.operators.controls.noise_difference import (
    NoiseDifference,
    above_threshold,
    noise_difference,
)
from overpaint.operators.diffusion.batch import Batch
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column
from overpaint.pipeline.cost import Cost

if TYPE_CHECKING:
    from torch import Tensor


class NoiseDifferenceFinder(LatentFinder, NoiseDifference):
    """Finds where an editor's predictions differ between source and target prompt.

    Without a description of the source, the target prompt is compared with the empty one.
    """

    papers = ("2210.11427",)
    word = "noise_difference"

    @property
    def optional(self) -> tuple[Column, ...]:
        """Descriptions of the source."""
        return (c.SOURCE_PROMPT, c.CAPTION)

    def cost(self) -> Cost:
        """Counts two predictions for each noise."""
        return Cost(forward=self.num_difference_forwards, vae_encode=1, text=2)

    def heat(self, batch: Batch) -> "Tensor":
        """Returns the mean distance of the predictions in units of each row's threshold."""
        source = batch.prompts([r.values[c.SOURCE_PROMPT.name] for r in batch.requests])
        target = batch.prompts([r.prompt for r in batch.requests])
        distance = noise_difference(batch, batch.source_latents, source, target, self)
        return above_threshold(distance, self)
