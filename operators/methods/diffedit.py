"""DiffEdit (arXiv 2210.11427): finds by itself where the prompts disagree, and edits only there.

The mask comes from noise predictions under source and target prompt; then the source's inverted
trajectory is denoised towards the target, and what is outside the mask is held to the trajectory.
"""

from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import KeepOutside
from overpaint.operators.controls.noise_difference import (
    NoiseDifference,
    above_threshold,
    noise_difference,
)
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost
from pydantic import Field


class DiffEdit(TextGuided, NoiseDifference):
    """DDIM inversion and denoising, kept to a mask that noise predictions give.

    A row's own mask limits the one that is found. diffusers takes the mean of a whole batch for the
    threshold, and holds the outside to the trajectory at the level before a step; here the mean is
    a row's own, and the level that after the step, as in the paper.
    """

    papers = ("2210.11427", "2010.02502")
    family = "F07"
    edit_types = ("color", "replace", "texture", "remove")
    needs = (c.INVERTED_PATH,)

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance; 7.5 in diffusers."""
    strength: float = Field(default=0.8, gt=0, le=1)
    """Share of the trajectory's steps that are walked, the paper's encoding ratio; 0.8 in
    diffusers."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the predictions for the mask too, and the source prompt."""
        mask = Cost(forward=self.num_difference_forwards, text=1)
        return super().cost(num_inference_steps) + mask

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory; holds the latents outside the found mask to it."""
        trajectory = batch.trajectory_sbchw
        source = batch.prompts(batch.source_prompts())
        target = batch.prompts([request.prompt for request in batch.requests])
        distance = noise_difference(batch, trajectory[-1], source, target, self)
        is_found = above_threshold(distance, self) > 1.0
        keep = KeepOutside(
            mask_b1hw=is_found * batch.mask_b1hw, source=lambda step: trajectory[step.index + 1]
        )
        return Sampling(start_bchw=trajectory[batch.steps[0].index], hooks=[keep])
