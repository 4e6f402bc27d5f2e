"""RePaint (arXiv 2201.09865): fills a mask, and resamples until the filling fits its surroundings.

After each step the known part is set to the source, noised afresh to the same level (equation 8 of
the paper). Then the run jumps back towards noise and comes again (section 4.2).
"""

from typing import TYPE_CHECKING

from overpaint.operators.controls.fill import Fill, Filling
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class RePaint(Fill):
    """Fills the mask with jumps back towards noise, by which the filling comes to fit.

    The jumps are those of the official code; those of diffusers begin one level later. Equation 8a
    writes the known part of level t-1 with the noise of level t; here both parts are at one level,
    as in diffusers.
    """

    papers = ("2201.09865",)
    family = "F10"
    edit_types = ("remove", "replace")

    num_inference_steps: int = Field(default=250, ge=1, le=1000)
    """Levels of noise; 250 in the paper."""
    eta: float = Field(default=1.0, ge=0, le=1)
    """Share of DDPM's fresh noise; 1 is the paper's DDPM, 0 is DDIM."""
    jump_length: int = Field(default=10, ge=1, le=1000)
    """Steps that a jump goes back; 10 in the paper."""
    jump_n_sample: int = Field(default=10, ge=1, le=100)
    """Visits of each level where jumps begin, the paper's resampling; 10 there, 1 is none."""

    @property
    def jumps(self) -> tuple[int, int]:
        """The length of a jump, and the visits of its level."""
        return self.jump_length, self.jump_n_sample

    def fill(self, filling: Filling) -> "Tensor":
        """Takes a DDPM step inside the mask, and the noised source outside."""
        x0, eps = filling.estimate()
        before, after = filling.step.alpha_bar, filling.step.alpha_bar_next
        variance = (1.0 - after) / (1.0 - before) * (1.0 - before / after)
        unknown = filling.noised(x0, eps, std=self.eta * max(variance, 0.0) ** 0.5)
        known = after**0.5 * filling.known_bchw + (1.0 - after) ** 0.5 * filling.draw()
        return known.lerp(unknown, filling.mask_b1hw)
