"""Prompt Tuning Inversion as an editor (arXiv 2305.04441): prompts between source and target.

The fit `prompt_tuning` found a source prompt for each step that gives the source back. The edit
follows prompts on the way from those to the target prompt.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from overpaint.operators.controls.fitted import fitted_tokens, mixed_prompts
from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.diffusion.batch import Batch, BranchInputs, Sampling
from overpaint.operators.diffusion.schedule import Step
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds


class PromptTuningInversion(TextGuided):
    """Denoising by prompts between those fitted to the source and the target prompt."""

    papers = ("2305.04441", "2206.02779")
    family = "F03"
    edit_types = ("replace", "background", "color", "texture", "style")
    needs = (c.INVERTED_PATH, c.FITTED_TEXT)
    reads_seed = False

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance; that of the fit should be the same."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked; all of them in the paper."""
    interpolation: float = Field(default=0.8, ge=0, le=1)
    """Place of the prompts between the fitted ones (0, the source) and the target prompt (1);
    about 0.8 in the paper."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the source prompt too."""
        cost = super().cost(num_inference_steps)
        return replace(cost, text=2)

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory, with mixed prompts."""
        target = batch.prompts([request.prompt for request in batch.requests])
        source = batch.prompts(batch.source_prompts())
        tokens = fitted_tokens(batch, c.FITTED_TEXT)

        def mixed(step: Step) -> "PromptEmbeds":
            fitted = source._replace(tokens_bsd=tokens(step))
            return mixed_prompts(fitted, target, self.interpolation)

        return Sampling(
            start_bchw=batch.trajectory_sbchw[batch.steps[0].index],
            branches={"text": BranchInputs(prompts=mixed)},
            hooks=[keep_outside_on_trajectory(batch)],
        )
