"""Masks by FISEdit (arXiv 2305.17423): where source and target prompt lead latents apart."""

from typing import TYPE_CHECKING

from overpaint.operators.controls.latent_difference import LatentDifference, where_latents_part
from overpaint.operators.controls.latent_finder import LatentFinder
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.schedule import walked_steps
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class FISEditFinder(LatentFinder, LatentDifference):
    """Finds where the first steps under source and target prompt differ.

    The paper edits pictures that the model has drawn itself, from their own noise; here both start
    from the noised source. Without a description of the source, it is compared with the empty one.
    """

    papers = ("2305.17423",)
    word = "fisedit"

    mask_encode_strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the way to pure noise at which both start; 1 in the paper."""

    @property
    def optional(self) -> tuple[Column, ...]:
        """Descriptions of the source."""
        return (c.SOURCE_PROMPT, c.CAPTION)

    @property
    def _walked(self) -> range:
        return walked_steps(self.mask_encode_strength, self.num_inference_steps)

    def cost(self) -> Cost:
        """Counts both prompts in each step, with guidance twice."""
        return Cost(forward=self.num_latent_forwards(len(self._walked)), vae_encode=1, text=2)

    def heat(self, batch: Batch) -> "Tensor":
        """Returns 2 for the places where the latents part, else 0."""
        steps = batch.schedule.steps[self._walked.start :]
        sources = [request.values[c.SOURCE_PROMPT.name] for request in batch.requests]
        start = batch.source.at(steps[0].alpha_bar)
        return 2.0 * where_latents_part(batch, start, steps, sources, self)
