"""SDEdit from strokes (arXiv 2108.01073): noise on a painted guide, then denoising.

The noise hides that strokes are strokes; what is left of them is colour and place. The paper
repeats this a few times.
"""

from typing import TYPE_CHECKING

from overpaint.operators.controls.masking import keep_outside
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.step_noise import NONE, FreshNoise
from overpaint.operators.methods.sdedit import SDEdit
from overpaint.pipeline.conditions import STROKES
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class SDEditStrokes(SDEdit):
    """Noise on the source with strokes, then denoising towards the target prompt."""

    edit_types = ("color", "add", "replace", "background")
    needs = (STROKES,)

    strength: float = Field(default=0.5, gt=0, le=1)
    """Share of the steps that are walked; timestep 500 of 1000 in the official code."""
    eta: float = Field(default=1.0, ge=0, le=1)
    """Fresh noise in each step: 1 is DDPM's, as in the paper; 0 is DDIM's, none."""
    sample_step: int = Field(default=3, ge=1, le=100)
    """Times that noise is added and taken off again; 3 in the official code."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts every repetition, and the strokes, which are encoded beside the source."""
        once = super().cost(num_inference_steps)
        again = Cost(forward=once.forward * (self.sample_step - 1))
        return once + again + Cost(vae_encode=1)

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from the noised strokes; holds the latents outside the mask to the source."""
        strokes = batch.encode([request.values[STROKES.name] for request in batch.requests])
        return self._from(batch, strokes, batch.noise)

    def edited(self, batch: Batch) -> "Tensor":
        """Adds noise to the strokes and takes it off, and then does so with what came of them."""
        from overpaint.operators.diffusion.latents import draw_noise

        sampling = self.sampling(batch)
        latents = batch.run(self.branches(), self.complete(sampling))
        for _ in range(self.sample_step - 1):
            sampling = self._from(batch, latents, draw_noise(batch.generators, latents))
            latents = batch.run(self.branches(), self.complete(sampling))
        return latents

    def _from(self, batch: Batch, guide_bchw: "Tensor", noise_bchw: "Tensor") -> Sampling:
        return Sampling(
            start_bchw=batch.steps[0].noised(guide_bchw, noise_bchw),
            hooks=[keep_outside(batch)],
            noise=FreshNoise(generators=batch.generators, eta=self.eta) if self.eta else NONE,
        )
