"""DDRM (arXiv 2201.11793): fills a mask as a linear inverse problem, solved in spectral space.

The singular values of masking are 1 where the picture is known and 0 elsewhere, and its singular
vectors are the latent pixels themselves. So each latent pixel goes by equation 7 or 8 of the paper,
written for variance-exploding noise of standard deviation sigma_t.
"""

from typing import TYPE_CHECKING

from overpaint.operators.controls.fill import Fill, Filling
from overpaint.operators.diffusion.batch import Batch
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class DDRM(Fill):
    """Fills the mask by denoising diffusion restoration: few steps, none of them differentiated."""

    papers = ("2201.11793",)
    family = "F10"
    edit_types = ("remove", "replace")

    num_inference_steps: int = Field(default=20, ge=1, le=1000)
    """Denoising steps from noise to picture; 20 in the paper."""
    eta: float = Field(default=0.85, ge=0, le=1)
    """Share of the noise of a level that is drawn afresh; 0.85 in the official code."""
    eta_b: float = Field(default=1.0, ge=0, le=1)
    """Weight of the source in the known part, against the prediction; 1 in the official code."""
    sigma_0: float = Field(default=0.0, ge=0, le=10)
    """Noise of the known latents, as a standard deviation; below that level the prediction may
    clean them. 0 takes them as they are."""

    def start(self, noise_bchw: "Tensor", batch: Batch) -> "Tensor":
        """Returns noise around the source where it is known, and around 0 elsewhere: equation 6."""
        alpha_bar = batch.steps[0].alpha_bar
        std = max((1.0 - alpha_bar) - alpha_bar * self.sigma_0**2, 0.0) ** 0.5
        known = alpha_bar**0.5 * batch.source_latents + std * noise_bchw
        return known.lerp((1.0 - alpha_bar) ** 0.5 * noise_bchw, batch.mask_b1hw)

    def fill(self, filling: Filling) -> "Tensor":
        """Samples the known and the unknown part from the paper's conditional distributions."""
        x0, eps = filling.estimate()
        alpha_bar, mask = filling.step.alpha_bar_next, filling.mask_b1hw
        sigma = ((1.0 - alpha_bar) / alpha_bar) ** 0.5
        kept = (1.0 - self.eta**2) ** 0.5
        if sigma >= self.sigma_0:
            known_mean = x0.lerp(filling.known_bchw, self.eta_b)
            known_std = max(sigma**2 - (self.sigma_0 * self.eta_b) ** 2, 0.0) ** 0.5
        else:
            known_mean = x0 + kept * sigma * (filling.known_bchw - x0) / self.sigma_0
            known_std = self.eta * sigma
        mean = known_mean.lerp(x0 + kept * sigma * eps, mask)
        std = known_std + (self.eta * sigma - known_std) * mask
        return alpha_bar**0.5 * (mean + std * filling.draw())
