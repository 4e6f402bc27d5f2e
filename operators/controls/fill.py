"""Filling of a mask by a loop of its own: what zero-shot inpainting methods share.

What is known is put in at every step, or the latents are drawn towards it by a gradient; fresh
noise at every step draws an error of the known part anew, and does not keep it. The last level is
that of the clean latents themselves.

Shapes: b rows, c latent channels, h and w latent pixels.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.controls.guidance import ClassifierFree, TextGuided
from overpaint.operators.controls.resampling import resampled
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.method import Framed
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.diffusion.schedule import Step
from overpaint.operators.diffusion.state import StepState
from overpaint.pipeline.conditions import MASK
from overpaint.pipeline.cost import Cost

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel
    from torch import Tensor

Draw = Callable[[], "Tensor"]
"""Draws fresh unit noise bchw, each row from its own generator."""


class Estimate(NamedTuple):
    """Clean latents and noise, as a guided prediction has them.

    Attributes:
        x0_bchw: clean latents.
        eps_bchw: noise.
    """

    x0_bchw: "Tensor"
    eps_bchw: "Tensor"


class Descent(NamedTuple):
    """An estimate, and the way in which a loss of the clean latents falls.

    Attributes:
        estimate: estimate at the latents.
        losses_b: loss of each row.
        gradient_bchw: gradient of the loss by the noisy latents, through the UNet.
    """

    estimate: Estimate
    losses_b: "Tensor"
    gradient_bchw: "Tensor"


@dataclass(frozen=True, kw_only=True, slots=True)
class Filling:
    """A step of a fill.

    Attributes:
        step: its levels.
        latents_bchw: latents before the step.
        known_bchw: clean latents of the sources.
        mask_b1hw: 1 is to be filled, 0 is known; a share in between mixes.
        draw: draws fresh noise.
        predict: estimates at latents of the level before the step.
        spend: counts a backward pass of every prediction.
    """

    step: Step
    latents_bchw: "Tensor"
    known_bchw: "Tensor"
    mask_b1hw: "Tensor"
    draw: Draw
    predict: "Callable[[Tensor], Estimate]"
    spend: Callable[[], None]

    def estimate(self) -> Estimate:
        """Returns the estimate at the latents before the step."""
        return self.predict(self.latents_bchw)

    def noised(self, x0_bchw: "Tensor", eps_bchw: "Tensor", std: float) -> "Tensor":
        """Returns latents at the level after the step, with fresh noise in them.

        Equation 12 of arXiv 2010.02502.

        Args:
            x0_bchw: clean latents.
            eps_bchw: predicted noise.
            std: standard deviation of the fresh noise; the predicted noise makes up the rest.
        """
        alpha_bar = self.step.alpha_bar_next
        direction = max(1.0 - alpha_bar - std**2, 0.0) ** 0.5
        return alpha_bar**0.5 * x0_bchw + direction * eps_bchw + std * self.draw()

    def unlike_known(self, x0_bchw: "Tensor") -> "Tensor":
        """Returns the squared distance of clean latents from the source where that is known, b."""
        known = (1.0 - self.mask_b1hw) * (self.known_bchw - x0_bchw)
        return known.square().sum(dim=(1, 2, 3))

    def descent(
        self, latents_bchw: "Tensor", loss: "Callable[[Tensor, Tensor], Tensor]"
    ) -> Descent:
        """Returns the estimate at latents, and the gradient of a loss.

        Args:
            latents_bchw: latents of the level before the step.
            loss: from the latents and their clean latents to a loss for each row.
        """
        import torch

        with torch.enable_grad():
            latents = latents_bchw.detach().requires_grad_()
            estimate = self.predict(latents)
            losses = loss(latents, estimate.x0_bchw)
            (gradient,) = torch.autograd.grad(losses.sum(), latents)
        self.spend()
        x0, eps = (part.detach() for part in estimate)
        return Descent(Estimate(x0, eps), losses.detach(), gradient)


class Fill(TextGuided, Framed):
    """A method that fills a mask, with jumps back towards noise where it has them."""

    needs = (MASK,)

    @property
    def jumps(self) -> tuple[int, int]:
        """The length of a jump in steps, and the visits of a level at which jumps begin."""
        return 1, 1

    def start(self, noise_bchw: "Tensor", batch: Batch) -> "Tensor":
        """Returns the latents bchw at the first level: the noise itself."""
        del batch
        return noise_bchw

    @abstractmethod
    def fill(self, filling: Filling) -> "Tensor":
        """Returns the latents bchw after a step."""

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from noise."""
        return Sampling(start_bchw=batch.noise)

    def num_walked(self, num_inference_steps: int) -> int:
        """Returns the number of steps towards the picture, as often as they are walked."""
        return sum(not move.is_up for move in resampled(num_inference_steps, *self.jumps))

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts each step as often as it is walked towards the picture."""
        forward = self.num_walked(num_inference_steps) * len(self.branches())
        return replace(super().cost(num_inference_steps), forward=forward)

    def edit(
        self, requests: Sequence[EditRequest], model: "LatentModel"
    ) -> list[NDArray[np.float32]]:
        """Fills the masks of a batch, and decodes it."""
        steps = self.num_inference_steps
        batch = Batch(requests, model, num_inference_steps=steps, walked=self.walked)
        return batch.decode(self.filled(batch))

    def filled(self, batch: Batch) -> "Tensor":
        """Returns the clean latents bchw of a batch whose masks are filled."""
        draw = _draw(batch)
        latents = self.start(draw(), batch)
        steps = [*batch.steps[:-1], replace(batch.steps[-1], alpha_bar_next=1.0)]
        predict = self._predictor(batch)
        backward = Cost(backward=len(batch.requests) * len(self.branches()))
        for step_index, is_up in resampled(len(steps), *self.jumps):
            step = steps[step_index]
            if is_up:
                kept = step.alpha_bar / step.alpha_bar_next
                latents = kept**0.5 * latents + (1.0 - kept) ** 0.5 * draw()
                continue
            latents = self.fill(
                Filling(
                    step=step,
                    latents_bchw=latents,
                    known_bchw=batch.source_latents,
                    mask_b1hw=batch.mask_b1hw,
                    draw=draw,
                    predict=partial(predict, step),
                    spend=partial(batch.model.spend, backward),
                )
            )
        return latents

    def _predictor(self, batch: Batch) -> "Callable[[Step, Tensor], Estimate]":
        """Returns a function from a step and noisy latents to their guided estimate."""
        from overpaint.operators.diffusion.sampling import to_x0_and_eps

        guide = ClassifierFree(guidance_scale=self.guidance_scale, rescale=self.guidance_rescale)
        prompts = {"text": batch.prompts([request.prompt for request in batch.requests])}
        if "negative" in self.branches():
            prompts["negative"] = batch.negative_prompts(self.negative_prompt)

        def predict(step: Step, latents_bchw: "Tensor") -> Estimate:
            predictions = batch.predict(latents_bchw, step, prompts)
            state = StepState(step=step, latents_bchw=latents_bchw, predictions=predictions)
            kind = batch.schedule.prediction_type
            return Estimate(*to_x0_and_eps(guide(state), latents_bchw, step.alpha_bar, kind))

        return predict


def _draw(batch: Batch) -> Draw:
    """Returns a function that draws noise; the first is the batch's own."""
    from overpaint.operators.diffusion import latents

    generators = latents.make_generators([request.seed for request in batch.requests])
    return lambda: latents.draw_noise(generators, batch.source_latents)
