"""CoPaint (arXiv 2304.03322): fills a mask coherently, by optimising the noisy latents themselves.

At each level the latents descend, a few times, towards ones whose clean estimate agrees with what
is known (equation 12 of the paper), and then a DDIM step is taken. With time travel this is
CoPaint-TT.
"""

from typing import TYPE_CHECKING

from overpaint.operators.controls.fill import Descent, Estimate, Fill, Filling
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class CoPaint(Fill):
    """Fills the mask by a few steps of gradient descent at each level of noise.

    A step that raises a row's loss is not taken by that row, and its rate is halved; the official
    code tries again with a smaller rate, for the whole batch and without a bound.
    """

    papers = ("2304.03322",)
    family = "F10"
    edit_types = ("remove", "replace")

    num_inference_steps: int = Field(default=250, ge=1, le=1000)
    """Denoising steps from noise to picture; 250 in the paper."""
    num_iteration_optimize_xt: int = Field(default=2, ge=0, le=100)
    """Steps of descent at each level; 2 in the official code. 0 samples without the source."""
    lr_xt: float = Field(default=0.02, gt=0, le=100)
    """Rate of the descent at the clean end; 0.02 in the official code."""
    lr_xt_decay: float = Field(default=1.012, gt=0, le=10)
    """Factor of the rate for each step that was taken; 1.012 in the official code."""
    coef_xt_reg: float = Field(default=0.0001, ge=0, le=100)
    """Weight of the squared distance that the latents move; 0.0001 in the official code."""
    travel_length: int = Field(default=1, ge=1, le=1000)
    """Steps that time travel goes back."""
    travel_repeat: int = Field(default=1, ge=1, le=100)
    """Visits of each level where time travel begins; 1 is none."""

    @property
    def jumps(self) -> tuple[int, int]:
        """The travel's length and repeats."""
        return self.travel_length, self.travel_repeat

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the predictions and the backward passes of the descent."""
        predictions = self.num_walked(num_inference_steps) * len(self.branches())
        descents = predictions * self.num_iteration_optimize_xt
        return super().cost(num_inference_steps) + Cost(forward=descents, backward=descents)

    def fill(self, filling: Filling) -> "Tensor":
        """Descends, and takes a DDIM step."""
        estimate = self._optimized(filling) if self.num_iteration_optimize_xt else None
        return filling.noised(*(estimate or filling.estimate()), std=0.0)

    def _optimized(self, filling: Filling) -> Estimate:
        """Returns the estimate at latents that have descended."""

        def loss(latents: "Tensor", x0: "Tensor") -> "Tensor":
            moved = (latents - filling.latents_bchw).square().sum(dim=(1, 2, 3))
            return filling.unlike_known(x0) + self.coef_xt_reg * moved

        latents, step = filling.latents_bchw, filling.step
        at = filling.descent(latents, loss)
        rate = self.lr_xt * step.alpha_bar**0.5 * self.lr_xt_decay**step.index
        rates = at.losses_b.new_full(at.losses_b.shape, rate).view(-1, 1, 1, 1)
        for num_left in reversed(range(self.num_iteration_optimize_xt)):
            tried = latents - rates * at.gradient_bchw
            if num_left:
                there = filling.descent(tried, loss)
            else:
                estimate = filling.predict(tried)
                losses = loss(tried, estimate.x0_bchw)
                there = Descent(estimate, losses, at.gradient_bchw)
            is_better = (there.losses_b <= at.losses_b).view(-1, 1, 1, 1)
            latents, at = tried.where(is_better, latents), _chosen(is_better, there, at)
            rates = rates.where(is_better, rates / 2.0)
        return at.estimate


def _chosen(is_first_b111: "Tensor", first: Descent, second: Descent) -> Descent:
    """Returns for each row the first of two descents, or the second."""
    x0, eps = (
        one.where(is_first_b111, other)
        for one, other in zip(first.estimate, second.estimate, strict=True)
    )
    losses = first.losses_b.where(is_first_b111.flatten(), second.losses_b)
    gradient = first.gradient_bchw.where(is_first_b111, second.gradient_bchw)
    return Descent(Estimate(x0, eps), losses, gradient)
