"""Inpainting with a UNet of 9 input channels (Stable Diffusion inpainting, arXiv 2112.10752).

Its further channels are the mask and the latents of the source without what is masked.
"""

from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.inpainting import inpainting_channels
from overpaint.operators.diffusion.batch import Batch, BranchInputs, Sampling
from overpaint.operators.diffusion.method import Framed
from overpaint.pipeline.conditions import MASK
from overpaint.pipeline.cost import Cost
from pydantic import Field


class Inpaint(TextGuided, Framed):
    """Fills the mask with what the target prompt says, by an inpainting model."""

    papers = ("2112.10752",)
    family = "F09"
    edit_types = ("add", "remove", "replace", "background")
    checkpoints = ("StableDiffusionInpaintPipeline", "StableDiffusionXLInpaintPipeline")
    papercut = None
    needs = (MASK,)

    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the steps that are walked; 1 starts from pure noise."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the masked source too, which is encoded beside the source."""
        return super().cost(num_inference_steps) + Cost(vae_encode=1)

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from noise, or from the noised source where `strength` is below 1."""
        inputs = BranchInputs(channels_bchw=inpainting_channels(batch))
        start = batch.noise if self.strength == 1.0 else batch.noised_source
        return Sampling(start_bchw=start, branches=dict.fromkeys(self.branches(), inputs))
