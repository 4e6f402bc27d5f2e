"""Filling of a mask by sampling with fresh noise: what zero-shot inpainting methods share.

What is known is put in at every step, and noise is drawn at every step, so that an error of the
known part is drawn anew and not kept. The last level is that of the clean latents themselves.

Shapes: b rows, c latent channels, h and w latent pixels.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Filling:
    """A step of a fill.

    Attributes:
        step: its levels.
        x0_bchw: clean latents by the guided prediction.
        eps_bchw: noise by the guided prediction.
        known_bchw: clean latents of the sources.
        mask_b1hw: 1 is to be filled, 0 is known; a share in between mixes.
        draw: draws fresh noise.
    """

    step: Step
    x0_bchw: "Tensor"
    eps_bchw: "Tensor"
    known_bchw: "Tensor"
    mask_b1hw: "Tensor"
    draw: Draw

    def noised(self, x0_bchw: "Tensor", std: float) -> "Tensor":
        """Returns latents at the level after the step, with fresh noise in them.

        Equation 12 of arXiv 2010.02502.

        Args:
            x0_bchw: clean latents.
            std: standard deviation of the fresh noise; the predicted noise makes up the rest.
        """
        alpha_bar = self.step.alpha_bar_next
        direction = max(1.0 - alpha_bar - std**2, 0.0) ** 0.5
        return alpha_bar**0.5 * x0_bchw + direction * self.eps_bchw + std * self.draw()


class Fill(TextGuided, Framed):
    """A method that fills a mask, with fresh noise in every step and with jumps back."""

    needs = (MASK,)

    @property
    @abstractmethod
    def jumps(self) -> tuple[int, int]:
        """The length of a jump in steps, and the visits of a level at which jumps begin."""

    @abstractmethod
    def fill(self, filling: Filling) -> "Tensor":
        """Returns the latents bchw after a step."""

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from noise."""
        return Sampling(start_bchw=batch.noise)

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts each step as often as it is walked towards the picture."""
        moves = resampled(num_inference_steps, *self.jumps)
        num_predictions = sum(not move.is_up for move in moves)
        forward = num_predictions * len(self.branches())
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
        latents = draw()
        steps = [*batch.steps[:-1], replace(batch.steps[-1], alpha_bar_next=1.0)]
        predict = self._predictor(batch)
        known, mask = batch.source_latents, batch.mask_b1hw
        for step_index, is_up in resampled(len(steps), *self.jumps):
            step = steps[step_index]
            if is_up:
                kept = step.alpha_bar / step.alpha_bar_next
                latents = kept**0.5 * latents + (1.0 - kept) ** 0.5 * draw()
                continue
            x0, eps = predict(latents, step)
            latents = self.fill(
                Filling(
                    step=step,
                    x0_bchw=x0,
                    eps_bchw=eps,
                    known_bchw=known,
                    mask_b1hw=mask,
                    draw=draw,
                )
            )
        return latents

    def _predictor(self, batch: Batch) -> "Callable[[Tensor, Step], tuple[Tensor, Tensor]]":
        """Returns a function from noisy latents to clean latents and noise, guided."""
        from overpaint.operators.diffusion.sampling import to_x0_and_eps

        guide = ClassifierFree(guidance_scale=self.guidance_scale, rescale=self.guidance_rescale)
        prompts = {"text": batch.prompts([request.prompt for request in batch.requests])}
        if "negative" in self.branches():
            prompts["negative"] = batch.negative_prompts(self.negative_prompt)

        def predict(latents_bchw: "Tensor", step: Step) -> "tuple[Tensor, Tensor]":
            predictions = batch.predict(latents_bchw, step, prompts)
            state = StepState(step=step, latents_bchw=latents_bchw, predictions=predictions)
            kind = batch.schedule.prediction_type
            return to_x0_and_eps(guide(state), latents_bchw, step.alpha_bar, kind)

        return predict


def _draw(batch: Batch) -> Draw:
    """Returns a function that draws noise; the first is the batch's own."""
    from overpaint.operators.diffusion import latents

    generators = latents.make_generators([request.seed for request in batch.requests])
    return lambda: latents.draw_noise(generators, batch.source_latents)
