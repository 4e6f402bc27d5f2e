"""Steps that noise the clean latents of each step anew: DDCM of InfEdit (arXiv 2312.04965).

The source is noised with the same noise, so that its clean latents are known at every level, and
nothing is inverted.

Shapes: b rows, s steps, c latent channels, h and w latent pixels.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.schedule import Step
from overpaint.operators.diffusion.state import Guidance, StepState

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Renoised:
    """Noise that is the whole spread of a step: the latents after it are its noised clean ones.

    After the last walked step there is none, whatever level the schedule ends at.

    Attributes:
        x0_bchw: latents of the sources.
        noise_sbchw: unit noise of every level that is walked, the noisiest first.
        first: index of the first walked step.
    """

    x0_bchw: "Tensor"
    noise_sbchw: "Tensor"
    first: int

    def sigma(self, step: Step) -> float:
        """Returns the whole spread of the level after a step."""
        return (1.0 - step.alpha_bar_next) ** 0.5

    def add(self, mean_bchw: "Tensor", step: Step) -> "Tensor":
        """Returns the mean with the noise of the next level; after the last step, clean latents."""
        if self._is_last(step):
            return mean_bchw / step.alpha_bar_next**0.5
        return mean_bchw + self.sigma(step) * self.noise(step.index + 1)

    def noise(self, index: int) -> "Tensor":
        """Returns the noise bchw of the level before the step of an index."""
        return self.noise_sbchw[index - self.first]

    def source(self, step: Step) -> "Tensor":
        """Returns the source's latents bchw before a step."""
        return step.noised(self.x0_bchw, self.noise(step.index))

    def source_after(self, step: Step) -> "Tensor":
        """Returns the source's latents bchw after a step."""
        if self._is_last(step):
            return self.x0_bchw
        spread = self.sigma(step)
        return step.alpha_bar_next**0.5 * self.x0_bchw + spread * self.noise(step.index + 1)

    def _is_last(self, step: Step) -> bool:
        return step.index + 1 == self.first + len(self.noise_sbchw)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaFromSource:
    """Guidance by which the source's own error is taken from the edit's noise.

    At the source the noise is known; what the model predicts there beside it is its error.

    Attributes:
        inner: guidance of the edit.
        source: guidance of the source, which reads `text` and `negative` of its own predictions.
        renoised: source and noise.
        batch: rows.
    """

    inner: Guidance
    source: Guidance
    renoised: Renoised
    batch: Batch

    def __call__(self, state: StepState) -> "Tensor":
        """Returns the corrected prediction, bchw."""
        batch, step, latents = self.batch, state.step, state.latents_bchw
        edit = batch.eps(latents, step, self.inner(state))
        source_latents = self.renoised.source(step)
        predictions = {"text": state.predictions["source"]}
        if "source_negative" in state.predictions:
            predictions["negative"] = state.predictions["source_negative"]
        source_state = StepState(step=step, latents_bchw=source_latents, predictions=predictions)
        source = batch.eps(source_latents, step, self.source(source_state))
        return batch.prediction(latents, step, edit - source + self.renoised.noise(step.index))


def renoise(batch: Batch) -> Renoised:
    """Returns the noise of a batch's walked steps, each row's from its own generator."""
    import torch
    from overpaint.operators.diffusion.latents import draw_noise

    x0 = batch.source_latents
    noise = torch.stack([draw_noise(batch.generators, x0) for _ in batch.steps])
    return Renoised(x0_bchw=x0, noise_sbchw=noise, first=batch.steps[0].index)
