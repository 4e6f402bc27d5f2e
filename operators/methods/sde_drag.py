"""SDE-Drag (arXiv 2311.01410): copies patches in noisy latents, and samples back with their noise.

The source is noised step by step, and what each step of the reverse SDE lacks to come back is kept.
In the noisy latents the patch around each point is copied to where it is dragged; the way back has
the same noise, so that all else comes back as it was.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from overpaint.operators.controls.guidance import ClassifierFree, TextGuided
from overpaint.operators.controls.patches import drag_patches, latent_points, part_of
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.method import Framed
from overpaint.operators.diffusion.schedule import ALL_STEPS, Step, Window
from overpaint.operators.diffusion.state import StepState
from overpaint.operators.diffusion.step_noise import ddim_sigma
from overpaint.pipeline.conditions import MASK, POINTS
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from torch import Tensor


class SDEDrag(TextGuided, Framed):
    """Patches dragged in the noisy latents of a cycle-consistent SDE.

    Points are dragged in `num_drag_steps` equal parts, where the official code takes as many parts
    of two latent pixels as a picture needs. What is left behind is noised before patches are put
    down, so that a short drag keeps its patch. The official code's optional LoRA is left out.
    """

    papers = ("2311.01410",)
    family = "F16"
    edit_types = ("move",)
    needs = (POINTS,)
    uses = (MASK,)

    num_inference_steps: int = Field(default=200, ge=1, le=1000)
    """Steps of the whole schedule; 200 in the official code."""
    strength: float = Field(default=0.6, gt=0, le=1)
    """Share of the way to noise at which patches are copied, `t0`; 0.6 in the official code."""
    guidance_scale: float = Field(default=3.0, ge=0, le=100)
    """Scale of classifier-free guidance at the noisiest level; it is 1 at the cleanest and linear
    between; 3 in the official code."""
    num_drag_steps: int = Field(default=1, ge=1, le=100)
    """Parts in which patches are dragged, each with a way to noise and back."""
    adapt_radius: int = Field(default=5, ge=0, le=64)
    """Half of a patch's side in latent pixels, without its middle; 5 in the official code."""
    image_scale: float = Field(default=0.3, ge=0, le=1)
    """Share of the latents that stays where a patch was; noise is the rest; 0.3 officially."""
    copy_scale: float = Field(default=1.1, gt=0, le=10)
    """Factor of a copied patch; 1.1 in the official code."""

    def branches(self) -> Mapping[str, Window]:
        """Returns both branches: the guidance of most steps is not 1."""
        return dict.fromkeys(("text", "negative"), ALL_STEPS)

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the ways to noise and back."""
        cost = super().cost(num_inference_steps)
        return replace(cost, forward=cost.forward * 2 * self.num_drag_steps)

    def edited(self, batch: Batch) -> "Tensor":
        """Drags the patches, part by part."""
        from overpaint.operators.diffusion.latents import draw_noise

        prompts = {
            "text": batch.prompts([request.prompt for request in batch.requests]),
            "negative": batch.negative_prompts(self.negative_prompt),
        }
        points = latent_points(batch)
        latents, radius = batch.source_latents, self.adapt_radius
        for part in range(self.num_drag_steps):
            levels, residuals = self._noised(batch, latents, prompts)
            noise = draw_noise(batch.generators, latents)
            left = (1.0 - self.image_scale**2) ** 0.5 * noise + self.image_scale * levels[0]
            drags = [part_of(drag, part, self.num_drag_steps) for drag in points]
            dragged = [
                drag_patches(x, left=rest, patches=self.copy_scale * x, radius=radius, drags=own)
                for x, rest, own in zip(levels[0], left, drags, strict=True)
            ]
            latents = self._sampled(batch, dragged, levels, residuals, prompts)
        return latents

    def _noised(
        self, batch: Batch, latents: "Tensor", prompts: "Mapping[str, PromptEmbeds]"
    ) -> "tuple[list[Tensor], list[Tensor]]":
        """Returns the latents at every level, noisy to clean, and what each step lacks."""
        from overpaint.operators.diffusion.latents import draw_noise

        levels, residuals = [latents], list["Tensor"]()
        for step in reversed(batch.steps):
            kept = step.alpha_bar / step.alpha_bar_next
            noise = draw_noise(batch.generators, latents)
            noisy = kept**0.5 * levels[0] + (1.0 - kept) ** 0.5 * noise
            residuals.insert(0, levels[0] - self._mean(batch, noisy, step, prompts))
            levels.insert(0, noisy)
        return levels, residuals

    def _sampled(
        self,
        batch: Batch,
        dragged: "list[Tensor]",
        levels: "list[Tensor]",
        residuals: "list[Tensor]",
        prompts: "Mapping[str, PromptEmbeds]",
    ) -> "Tensor":
        """Returns the clean latents of dragged ones; what is masked out follows its levels."""
        import torch

        latents = levels[0].lerp(torch.stack(dragged), batch.mask_b1hw)
        for step, residual, level in zip(batch.steps, residuals, levels[1:], strict=True):
            latents = self._mean(batch, latents, step, prompts) + residual
            latents = level.lerp(latents, batch.mask_b1hw)
        return latents

    def _mean(
        self, batch: Batch, latents: "Tensor", step: Step, prompts: "Mapping[str, PromptEmbeds]"
    ) -> "Tensor":
        """Returns the mean of a step of the reverse SDE."""
        predictions = batch.predict(latents, step, prompts)
        state = StepState(step=step, latents_bchw=latents, predictions=predictions)
        number, last = step.index - batch.walked.start, max(len(batch.walked) - 1, 1)
        scale = 1.0 + (self.guidance_scale - 1.0) * (1.0 - number / last)
        guided = ClassifierFree(guidance_scale=scale, rescale=self.guidance_rescale)(state)
        return batch.advance(latents, step, guided, ddim_sigma(step, 1.0))
