"""Negative-prompt inversion (arXiv 2305.16807): guidance leads away from the source prompt.

The embedding that null-text inversion would fit is nearly the source prompt's own. So a target
prompt that is the source's gives the source as it was inverted, however strong the guidance, and
nothing is optimised. Edits hold the source's cross-attention, as the paper's do (Prompt-to-Prompt,
arXiv 2208.01626).
"""

from dataclasses import replace

from overpaint.operators.controls.source_negative import source_negative
from overpaint.operators.diffusion.batch import Batch, BranchInputs, Sampling
from overpaint.operators.diffusion.schedule import steps_in
from overpaint.operators.methods.prompt_to_prompt import PromptToPrompt
from overpaint.pipeline.cost import Cost
from pydantic import Field


class NegativePromptInversion(PromptToPrompt):
    """Prompt-to-Prompt whose guidance leads from the source prompt to the target prompt."""

    papers = ("2305.16807", "2208.01626")
    family = "F03"
    edit_types = ("color", "replace", "remove")

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance; above 1 it goes beyond the target prompt. The paper's 7.5
    is for Stable Diffusion with the source's cross-attention."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked."""
    cross_replace_steps: float = Field(default=0.8, ge=0, le=1)
    """Share of the walked steps, from the first on, with the source's cross-attention; 0.4 to 0.8
    in the code of Negative-prompt inversion."""
    npi_interp: float = Field(default=0.0, ge=0, le=1)
    """Place of the negative embedding between the source prompt's (0) and the negative prompt's
    (1), by spherical interpolation."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the source prompt too where only guidance reads it."""
        windows, walked = self.branches(), self.walked(num_inference_steps)
        is_counted = bool(steps_in(windows["source"], walked))
        extra = int("negative" in windows and not is_counted)
        return super().cost(num_inference_steps) + Cost(text=extra)

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory, with the source prompts as the negative ones."""
        sampling = super().sampling(batch)
        if "negative" not in self.branches():
            return sampling
        negative = source_negative(batch, self.npi_interp, self.negative_prompt)
        inputs = {**sampling.branches, "negative": BranchInputs(prompts=negative)}
        return replace(sampling, branches=inputs)
