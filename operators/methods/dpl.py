"""Dynamic Prompt Learning as an editor (arXiv 2309.15664): null-text inversion with fitted nouns.

The fit `dpl` found nouns that look at their own things alone. Words that both prompts share are
those of the fit in both; the target's other words are its own.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from overpaint.operators.controls.fitted import fitted_tokens
from overpaint.operators.controls.prompt_to_prompt import align_prompts
from overpaint.operators.diffusion.batch import Batch, BranchInputs, Sampling
from overpaint.operators.diffusion.schedule import Step
from overpaint.operators.methods.prompt_to_prompt import PromptToPrompt
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds


class DPL(PromptToPrompt):
    """Prompt-to-Prompt with the nouns and the empty prompts that were fitted to the source.

    The official code embeds the target prompt anew with the fitted nouns in each step; here the
    change of each shared word's embedding is added to the target's.
    """

    papers = ("2309.15664", "2211.09794", "2208.01626")
    family = "F03"
    edit_types = ("replace", "color", "texture")
    needs = (c.INVERTED_PATH, c.FITTED_WORDS)

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance; that of the fit should be the same."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked; all of them in the paper."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts both prompts."""
        return replace(super().cost(num_inference_steps), text=2)

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory, with the fitted prompts."""
        import torch

        sampling, empty = super().sampling(batch), batch.negative_prompts("")
        target = batch.prompts([request.prompt for request in batch.requests])
        source = batch.prompts(batch.source_prompts())
        negative = fitted_tokens(batch, c.FITTED_WORDS)
        fits = [request.values[c.FITTED_WORDS.name] for request in batch.requests]
        fitted = torch.stack([fit.source_ntd for fit in fits], dim=1)
        shared = align_prompts(batch, equal_alone=True).transpose(1, 2).to(fitted)

        def text(step: Step) -> "PromptEmbeds":
            change = shared @ (fitted[step.index] - source.tokens_bsd)
            return target._replace(tokens_bsd=target.tokens_bsd + change)

        inputs = {
            "text": BranchInputs(prompts=text),
            "negative": BranchInputs(
                prompts=lambda step: empty._replace(tokens_bsd=negative(step))
            ),
            "source": replace(
                sampling.branches["source"],
                prompts=lambda step: source._replace(tokens_bsd=fitted[step.index]),
            ),
        }
        return replace(sampling, branches=inputs)
