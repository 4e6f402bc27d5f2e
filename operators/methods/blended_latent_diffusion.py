"""Blended Latent Diffusion (arXiv 2206.02779): fills a mask with a text-to-image model.

After each step the latents outside the mask are set to the source's at the same noise level.
"""

from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import keep_outside
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.method import Framed
from overpaint.pipeline.conditions import MASK
from pydantic import Field


class BlendedLatentDiffusion(TextGuided, Framed):
    """Fills the mask with what the target prompt says, by a text-to-image model."""

    papers = ("2206.02779",)
    family = "F07"
    edit_types = ("add", "remove", "replace", "background")
    needs = (MASK,)

    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the steps that are walked; 1 starts from pure noise."""

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from noise, or from the noised source where `strength` is below 1."""
        start = batch.noise if self.strength == 1.0 else batch.noised_source
        return Sampling(start_bchw=start, hooks=[keep_outside(batch)])
