"""DDNM (arXiv 2212.00490): fills a mask by the null space of masking, without a trained inpainter.

Masking keeps what is known: A. In each step the known part of the clean estimate is replaced by the
source's, x0 := A^+ y + (I - A^+ A) x0 (equation 13 of the paper), and only the null space is left
to the model.
"""

from typing import TYPE_CHECKING

from overpaint.operators.controls.fill import Fill, Filling
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class DDNM(Fill):
    """Fills the mask: the known part of each clean estimate is the source's.

    Time travel draws x_{t+l} from q(x_{t+l} | x_t), as algorithm 2 of the paper does; the official
    code noises the last clean estimate instead.
    """

    papers = ("2212.00490",)
    family = "F10"
    edit_types = ("remove", "replace")

    num_inference_steps: int = Field(default=100, ge=1, le=1000)
    """Denoising steps from noise to picture; 100 in the paper."""
    eta: float = Field(default=0.85, ge=0, le=1)
    """Share of the noise of a level that is drawn afresh; 0.85 in the official code."""
    travel_length: int = Field(default=1, ge=1, le=1000)
    """Steps that time travel goes back; 1 in the official code, 10 for large masks."""
    travel_repeat: int = Field(default=1, ge=1, le=100)
    """Visits of each level where time travel begins; 1 is none, 3 for large masks."""

    @property
    def jumps(self) -> tuple[int, int]:
        """The travel's length and repeats."""
        return self.travel_length, self.travel_repeat

    def fill(self, filling: Filling) -> "Tensor":
        """Projects the clean estimate, and noises it."""
        x0, eps = filling.estimate()
        x0 = filling.known_bchw.lerp(x0, filling.mask_b1hw)
        return filling.noised(x0, eps, std=self.eta * (1.0 - filling.step.alpha_bar_next) ** 0.5)
