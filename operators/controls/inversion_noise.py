"""The noise by which an inversion went from one level to the next, mixed into an edit's.

Shapes: b rows, c latent channels, h and w latent pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.schedule import Step
from overpaint.operators.diffusion.state import Guidance, StepState

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class TowardNoise:
    """Guidance whose prediction is mixed with the prediction that means a given noise.

    Attributes:
        inner: guidance that is mixed.
        prediction: returns the prediction (bchw) of the noise at the latents of a step.
        share: 0 leaves the guidance as it is, 1 takes the noise alone.
        steps: indices of the steps in which it mixes.
    """

    inner: Guidance
    prediction: "Callable[[StepState], Tensor]"
    share: float
    steps: range

    def __call__(self, state: StepState) -> "Tensor":
        """Returns the mixed prediction, bchw."""
        guided = self.inner(state)
        if state.step.index not in self.steps:
            return guided
        return guided.lerp(self.prediction(state), self.share)


def toward_inversion(batch: Batch, inner: Guidance, share: float, steps: range) -> TowardNoise:
    """Returns guidance that is mixed with the noise of the rows' inversions."""
    return TowardNoise(
        inner=inner,
        prediction=lambda state: batch.prediction(
            state.latents_bchw, state.step, inversion_noise(batch, state.step)
        ),
        share=share,
        steps=steps,
    )


def inversion_noise(batch: Batch, step: Step) -> "Tensor":
    """Returns the noise bchw by which DDIM leads between both ends of a step of the trajectory.

    Two neighbours say it exactly, so that no inversion need keep it.
    """
    before, after = batch.trajectory_sbchw[step.index], batch.trajectory_sbchw[step.index + 1]
    signal, signal_next = step.alpha_bar**0.5, step.alpha_bar_next**0.5
    spread, spread_next = (1.0 - step.alpha_bar) ** 0.5, (1.0 - step.alpha_bar_next) ** 0.5
    across = signal * after - signal_next * before
    return across / (signal * spread_next - signal_next * spread)
