"""Null-text inversion (arXiv 2211.09794): an empty prompt for each step that guidance needs.

Classifier-free guidance leads away from an inverted trajectory. The embedding of the empty prompt
is fitted in each step, so that guidance by the source prompt stays on it.

Shapes: b rows, s steps, t tokens, d channels, h and w latent pixels.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from overpaint.operators.controls.row_adam import RowAdam
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.fitting import FitMethod
from overpaint.operators.diffusion.inversion import FittedEmbeds
from overpaint.operators.diffusion.schedule import Step
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from torch import Tensor


class NullTextFit(FitMethod):
    """Fits the empty prompt, so that guidance by the source prompt gives the source."""

    papers = ("2211.09794",)
    family = "F03"
    needs = (c.INVERTED_PATH,)
    outputs = (c.FITTED_NEGATIVE,)

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance; that of the edit should be the same."""
    num_inner_steps: int = Field(default=10, ge=1, le=100)
    """Optimisation steps in each sampling step."""
    learning_rate: float = Field(default=0.01, gt=0, le=10)
    """Learning rate of the first sampling step; it falls to half until the last."""
    early_stop_epsilon: float = Field(default=1e-5, ge=0)
    """Loss of the first sampling step below which a row is done; it grows by twice as much in each
    step. 0 never stops early."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the source once, the inner steps, and the step that is taken then."""
        forward = num_inference_steps * (self.num_inner_steps + 2)
        backward = num_inference_steps * self.num_inner_steps
        return Cost(forward=forward, backward=backward, text=1)

    def fit(self, batch: Batch) -> list[Mapping[str, Any]]:
        """Walks the trajectories from noise to clean, and fits the empty prompt in each step."""
        import torch

        source = batch.prompts(batch.source_prompts())
        negative = batch.negative_prompts("")
        latents, steps = batch.trajectory_sbchw[0], []
        for step in batch.schedule.steps:
            with torch.no_grad():
                text = batch.predict(latents, step, {"text": source})["text"]
            negative = self._fitted(batch, latents, step, text, negative)
            with torch.no_grad():
                latents = self._next(batch, latents, step, text, negative)
            steps.append(negative.tokens_bsd)
        tokens = torch.stack(steps, dim=1)
        return [
            {c.FITTED_NEGATIVE.name: _fitted_row(request.values, row)}
            for request, row in zip(batch.requests, tokens, strict=True)
        ]

    def _fitted(
        self, batch: Batch, latents: "Tensor", step: Step, text: "Tensor", start: "PromptEmbeds"
    ) -> "PromptEmbeds":
        import torch

        target = batch.trajectory_sbchw[step.index + 1]
        rate = self.learning_rate * (1.0 - step.index / (2 * len(batch.schedule.steps)))
        stop = self.early_stop_epsilon * (1 + 2 * step.index)
        tokens, optimizer = start.tokens_bsd, RowAdam(rate)
        active = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
        for _ in range(self.num_inner_steps):
            with torch.enable_grad():
                tokens = tokens.detach().requires_grad_()
                embeds = start._replace(tokens_bsd=tokens)
                error = self._next(batch, latents, step, text, embeds) - target
                loss = error.square().flatten(1).mean(dim=1)
                (gradient,) = torch.autograd.grad(loss.sum(), tokens)
            batch.model.spend(Cost(backward=len(tokens)))
            tokens = optimizer.step(tokens.detach(), gradient, active)
            active &= loss.detach() >= stop
            if not bool(active.any()):
                break
        return start._replace(tokens_bsd=tokens.detach())

    def _next(
        self, batch: Batch, latents: "Tensor", step: Step, text: "Tensor", negative: "PromptEmbeds"
    ) -> "Tensor":
        """Returns the latents after a guided step."""
        uncond = batch.predict(latents, step, {"negative": negative})["negative"]
        return batch.advance(latents, step, uncond.lerp(text, self.guidance_scale))


def _fitted_row(values: Mapping[str, Any], tokens: "Tensor") -> FittedEmbeds:
    path = values[c.INVERTED_PATH.name]
    return FittedEmbeds(
        checkpoint=path.checkpoint,
        identity=path.identity,
        frame=path.frame,
        prompt=path.prompt,
        num_inference_steps=path.num_inference_steps,
        tokens_ntd=tokens,
    )
