"""DDIM inversion (arXiv 2010.02502) and denoising towards the target prompt."""

from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.pipeline import columns as c
from pydantic import Field


class DDIM(TextGuided):
    """Denoising of the inverted source towards the target prompt."""

    papers = ("2010.02502", "2206.02779")
    family = "F02"
    edit_types = ("color", "texture", "replace")
    needs = (c.INVERTED_PATH,)
    reads_seed = False

    guidance_scale: float = Field(default=3.0, ge=0, le=100)
    """Scale of classifier-free guidance; 1 is unguided."""
    strength: float = Field(default=0.8, gt=0, le=1)
    """Share of the trajectory's steps that are walked: how far towards noise the edit starts."""

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory; holds the latents outside the mask to it."""
        return Sampling(
            start_bchw=batch.trajectory_sbchw[batch.steps[0].index],
            hooks=[keep_outside_on_trajectory(batch)],
        )
