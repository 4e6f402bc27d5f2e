"""Null-text inversion as an editor (arXiv 2211.09794): Prompt-to-Prompt with fitted empty prompts.

Guidance leads away from the embeddings that the fit `null_text` found for each step, so that a
target prompt that is the source's gives the source, however strong the guidance.
"""

from dataclasses import replace

from overpaint.operators.controls.fitted import fitted_negative
from overpaint.operators.diffusion.batch import Batch, BranchInputs, Sampling
from overpaint.operators.methods.prompt_to_prompt import PromptToPrompt
from overpaint.pipeline import columns as c
from pydantic import Field


class NullText(PromptToPrompt):
    """Prompt-to-Prompt whose guidance starts from empty prompts fitted to the source."""

    papers = ("2211.09794", "2208.01626")
    family = "F03"
    needs = (c.INVERTED_PATH, c.FITTED_NEGATIVE)

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance; that of the fit should be the same."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked."""

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory, with the source's cross-attention and the fitted prompts."""
        sampling = super().sampling(batch)
        negative = BranchInputs(prompts=fitted_negative(batch))
        return replace(sampling, branches={**sampling.branches, "negative": negative})
