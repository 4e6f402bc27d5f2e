"""EDICT (arXiv 2211.12446): an edit that can be undone exactly, by a coupled pair of latents.

The code beside the paper returns both members; here the first is the edit.
"""

from dataclasses import replace
from functools import partial

from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost
from pydantic import Field


class EDICT(TextGuided):
    """Denoising of the inverted pair towards the target prompt."""

    papers = ("2211.12446", "2206.02779")
    family = "F02"
    edit_types = ("color", "replace", "background", "style")
    needs = (c.INVERTED_PAIR,)
    reads_seed = False

    guidance_scale: float = Field(default=3.0, ge=0, le=100)
    """Scale of classifier-free guidance; 1 is unguided. The paper's 3; that of the inversion should
    be the same."""
    strength: float = Field(default=0.8, gt=0, le=1)
    """Share of the trajectory's steps that are walked; the paper's 0.8."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the predictions at both members of each step."""
        cost = super().cost(num_inference_steps)
        return replace(cost, forward=2 * cost.forward)

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the pair's trajectory; holds the latents outside the mask to it."""
        from overpaint.operators.diffusion.coupled import denoise_coupled

        pair = batch.requests[0].values[c.INVERTED_PAIR.name]
        return Sampling(
            start_bchw=batch.trajectory_sbchw[batch.steps[0].index],
            hooks=[keep_outside_on_trajectory(batch)],
            sampler=partial(denoise_coupled, mixing_coeff=pair.mixing_coeff),
        )
