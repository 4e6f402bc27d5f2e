"""ILVR (arXiv 2108.02938): iterative latent variable refinement, conditioned on low frequencies.

After each ancestral step the low frequencies of the latents are set to those of the source, noised
to the same level (equation 8 of the paper): x := x' + phi_N(y) - phi_N(x'), where phi_N scales down
by N and up again. So an edit keeps the layout and the colours of its source, and nothing finer.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import keep_outside
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.method import Framed
from overpaint.operators.diffusion.state import StepState
from overpaint.operators.diffusion.step_noise import FreshNoise
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class ILVR(TextGuided, Framed):
    """Draws the target prompt on the low frequencies of the source, with or without a mask.

    Frequencies are those of latents, which are scaled as their pictures are in the paper.
    """

    papers = ("2108.02938",)
    family = "F10"
    edit_types = ("replace", "style", "texture")

    num_inference_steps: int = Field(default=100, ge=1, le=1000)
    """Denoising steps from noise to picture; 100 in the official examples."""
    down_N: float = Field(default=32, ge=1, le=4096)  # noqa: N815  the paper's own letter
    """Factor by which pictures are scaled down, in pixels; 32 in the official code, for 256 px."""
    range_t: int = Field(default=20, ge=0, le=1000)
    """Steps at the clean end without the source; 20 of 100 in the official examples."""
    eta: float = Field(default=1.0, ge=0, le=1)
    """Share of DDPM's fresh noise; 1 is the paper's DDPM, 0 is DDIM."""

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from noise, and refines after each step before the last `range_t`."""
        num_refined = batch.walked.stop - self.range_t
        refine = RefineLowFrequencies(batch=batch, down_N=self.down_N, num_steps=num_refined)
        noise = FreshNoise(generators=batch.generators, eta=self.eta)
        return Sampling(start_bchw=batch.noise, hooks=[refine, keep_outside(batch)], noise=noise)


@dataclass(frozen=True, kw_only=True, slots=True)
class RefineLowFrequencies:
    """Hook that sets the low frequencies of the latents to the noised source's.

    Attributes:
        batch: batch with its sources and generators.
        down_N: factor by which pictures are scaled down.
        num_steps: steps from the start in which that is done.
    """

    batch: Batch
    down_N: float  # noqa: N815  the paper's own letter
    num_steps: int

    def __call__(self, latents_bchw: "Tensor", state: StepState) -> "Tensor":
        """Returns the latents with the low frequencies of the source at the level after a step."""
        from overpaint.operators.diffusion import latents

        if state.step.index >= self.num_steps:
            return latents_bchw
        alpha_bar, batch = state.step.alpha_bar_next, self.batch
        noise = latents.draw_noise(batch.generators, latents_bchw)
        source = alpha_bar**0.5 * batch.source_latents + (1.0 - alpha_bar) ** 0.5 * noise
        return latents_bchw + self._low(source - latents_bchw)

    def _low(self, latents_bchw: "Tensor") -> "Tensor":
        """Returns the low frequencies of latents: phi_N, which is linear."""
        from torch.nn.functional import interpolate

        size = tuple(latents_bchw.shape[2:])
        scale = self.batch.model.factor_px / self.down_N
        small = tuple(max(1, round(side * scale)) for side in size)
        down = interpolate(latents_bchw, small, mode="bicubic", antialias=True)
        return interpolate(down, size, mode="bicubic", antialias=True)
