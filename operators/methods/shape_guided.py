"""Shape-Guided Diffusion (arXiv 2212.00210): an object is redrawn inside its own outline.

The source is inverted, and sampled again, with Inside-Outside Attention: words of the object are
attended to inside the mask alone and all others outside, and places look at their own side.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from overpaint.operators.controls.guidance import ClassifierFree, TextGuided
from overpaint.operators.controls.inside_outside import InsideOutside, kept_words, prompt_words
from overpaint.operators.controls.masking import KeepOutside
from overpaint.operators.controls.words import aligned_weights, phrases_of
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.method import Framed
from overpaint.pipeline import columns as c
from overpaint.pipeline.conditions import MASK
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class ShapeGuided(TextGuided, Framed):
    """Inside-Outside Attention in an inversion of its own and in sampling.

    Inside are the tokens of `mask_phrase`, or those that take their place in the target prompt;
    outside are all other words, of one prompt. The official code reads two prompts side by side.
    """

    papers = ("2212.00210",)
    family = "F05"
    edit_types = ("replace", "texture")
    needs = (MASK, c.SOURCE_PROMPT, c.MASK_PHRASE)
    reads_seed = False

    num_inference_steps: int = Field(default=50, ge=1, le=1000)
    """Steps of the inversion, and of sampling; 50 in the official code."""
    guidance_scale: float = Field(default=4.5, ge=0, le=100)
    """Scale of classifier-free guidance; officially 3.5, added to the prediction of the prompt."""
    cross_attn_schedule: float = Field(default=2.5, ge=0, le=100)
    """Factor of the attention to words that the source prompt lacks; 2.5 in the official code."""
    self_attn_schedule: float = Field(default=1.0, ge=0, le=1)
    """Share of the attention between inside and outside that is taken away; 1 officially."""

    def prompts(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Returns the row's prompts, with that of the source."""
        source = row.get(c.SOURCE_PROMPT.name) or ""
        return {**super().prompts(row), c.SOURCE_PROMPT.name: source}

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the inversion."""
        cost = super().cost(num_inference_steps)
        return replace(cost, forward=cost.forward + num_inference_steps, text=2)

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from the noise of an inversion that keeps to the mask."""
        import torch

        sources = [request.values[c.SOURCE_PROMPT.name] for request in batch.requests]
        before, after = self._attention(batch, sources)
        trajectory = torch.stack(self._inverted(batch, sources, before))
        return Sampling(
            start_bchw=trajectory[batch.steps[0].index],
            attention=after.edits,
            hooks=[
                KeepOutside(
                    mask_b1hw=batch.mask_b1hw, source=lambda step: trajectory[step.index + 1]
                )
            ],
        )

    def _attention(self, batch: Batch, sources: list[str]) -> tuple[InsideOutside, InsideOutside]:
        """Returns the edits of attention under the source prompts and under the target prompts."""
        import torch

        model, targets = batch.model, [request.prompt for request in batch.requests]
        pairs = [
            aligned_weights(model, *texts)
            for texts in zip(sources, targets, phrases_of(batch), strict=True)
        ]
        old, new = (torch.stack(side) for side in zip(*pairs, strict=True))
        old_words, new_words = (
            torch.stack([prompt_words(model, prompt) for prompt in prompts])
            for prompts in (sources, targets)
        )
        same = [kept_words(model, *texts) for texts in zip(sources, targets, strict=True)]
        strength = 1.0 + (self.cross_attn_schedule - 1.0) * (1.0 - torch.stack(same))
        before = InsideOutside(
            mask_b1hw=batch.mask_b1hw,
            inside_bt=old,
            outside_bt=old_words * (1.0 - old),
            self_attn_schedule=1.0,
        )
        after = replace(
            before,
            inside_bt=strength * new,
            outside_bt=strength * new_words * (1.0 - new),
            self_attn_schedule=self.self_attn_schedule,
        )
        return before, after

    def _inverted(
        self, batch: Batch, sources: list[str], attention: InsideOutside
    ) -> "list[Tensor]":
        """Returns the trajectory bchw of an inversion with its attention held to the mask."""
        from overpaint.operators.diffusion.sampling import ddim_inversion

        prompts = {"text": batch.prompts(sources)}
        predictor = batch.predictor(
            prompts, ClassifierFree(guidance_scale=1.0), attention=attention.edits
        )
        latents = batch.contiguous_source_latents
        return ddim_inversion(latents, batch.schedule, predictor, lambda back, last: back(last))
