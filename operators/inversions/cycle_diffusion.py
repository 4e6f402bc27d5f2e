"""CycleDiffusion's encoder (arXiv 2210.05559): a chain from the diffusion's posterior.

Each level follows from the noisier one and the source, as in the process that the model was trained
to reverse.
"""

from typing import TYPE_CHECKING

from overpaint.operators.controls.residuals import ResidualInversion
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.step_noise import FreshNoise
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class CycleDiffusionInversion(ResidualInversion):
    """A chain drawn from the posterior, with the residual of each step."""

    papers = ("2210.05559",)
    family = "F04"

    num_inference_steps: int = Field(default=100, ge=1, le=1000)
    """Steps of the chain; `edit` walks the same ones. The paper's 100."""
    eta: float = Field(default=0.1, ge=0, le=1)
    """Noise of the steps: 1 is DDPM's, 0 is DDIM's, none. The paper's 0.1."""

    def chain(self, batch: Batch) -> "list[Tensor]":
        """Returns the sources from noise to clean, each level drawn after the one before."""
        from overpaint.operators.diffusion.latents import NoisedSource
        from overpaint.operators.diffusion.sampling import ddim_step

        clean, steps = batch.contiguous_source_latents, batch.schedule.steps
        start = NoisedSource(x0_bchw=clean, noise_bchw=batch.noise).at(steps[0].alpha_bar)
        noise, levels = FreshNoise(generators=batch.generators, eta=self.eta), [start]
        for step in steps[:-1]:
            signal, spread = step.alpha_bar**0.5, (1.0 - step.alpha_bar) ** 0.5
            eps = (levels[-1] - signal * clean) / spread
            levels.append(noise.add(ddim_step(clean, eps, step, noise.sigma(step)), step))
        return [*levels, clean]
