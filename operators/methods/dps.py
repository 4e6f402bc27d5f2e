"""DPS (arXiv 2209.14687): fills a mask by posterior sampling, with a gradient through the UNet.

Each ancestral step is followed by a step down the distance of the clean estimate from what is known
of the source (algorithm 1 of the paper). MCG (arXiv 2206.00941) then also sets the known part to
the noised source.
"""

from typing import TYPE_CHECKING

from overpaint.operators.controls.fill import Fill, Filling
from overpaint.operators.diffusion.step_noise import ddim_sigma
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor

_LEAST_NORM = 1e-8


class DPS(Fill):
    """Fills the mask by diffusion posterior sampling.

    The norm of the distance is each row's own; that of the official code is of the whole batch.
    """

    papers = ("2209.14687", "2206.00941")
    family = "F10"
    edit_types = ("remove", "replace")

    num_inference_steps: int = Field(default=1000, ge=1, le=1000)
    """Denoising steps from noise to picture; 1000 in the paper."""
    eta: float = Field(default=1.0, ge=0, le=1)
    """Share of DDPM's fresh noise; 1 is the paper's DDPM, 0 is DDIM."""
    scale: float = Field(default=0.5, ge=0, le=1000)
    """Step size of the descent, the paper's zeta; 0.5 for inpainting in the official code. 0
    samples without the source."""
    project: bool = False
    """Whether the known part is set to the noised source after each step, as MCG does."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the backward passes too: one for each prediction."""
        cost = super().cost(num_inference_steps)
        return cost + Cost(backward=cost.forward)

    def fill(self, filling: Filling) -> "Tensor":
        """Takes a step, and one down the gradient of the distance from what is known."""
        at = filling.descent(filling.latents_bchw, lambda _, x0: filling.unlike_known(x0))
        # The gradient of a norm, by that of its square: where all is unknown it is 0 and not NaN.
        norms = at.losses_b.sqrt().clamp(min=_LEAST_NORM).view(-1, 1, 1, 1)
        moved = filling.noised(*at.estimate, std=ddim_sigma(filling.step, self.eta))
        moved = moved - self.scale / (2.0 * norms) * at.gradient_bchw
        return self._projected(moved, filling) if self.project else moved

    def _projected(self, latents_bchw: "Tensor", filling: Filling) -> "Tensor":
        """Returns the latents with the noised source where it is known."""
        alpha_bar = filling.step.alpha_bar_next
        known = alpha_bar**0.5 * filling.known_bchw + (1.0 - alpha_bar) ** 0.5 * filling.draw()
        return known.lerp(latents_bchw, filling.mask_b1hw)
