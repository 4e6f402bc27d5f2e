"""DiffusionDisentanglement (arXiv 2212.08698): soft mixtures of source and target prompt by step.

Steps with the source prompt hold the content, those with the target prompt change the attribute; a
weight for each step mixes the two embeddings. Weights that were found for one attribute hold for
other pictures, so that none need be optimised.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from overpaint.operators.controls.fitted import mixed_prompts
from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.diffusion.batch import Batch, BranchInputs, Sampling
from overpaint.operators.diffusion.schedule import Step
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost
from pydantic import Field, model_validator

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds


class DiffusionDisentanglement(TextGuided):
    """Denoising by a mixture of source and target prompt that each step has of its own.

    The official code optimises the weights for a pair of prompts, by CLIP and a perceptual loss
    through all steps, from the start that is the default here. Weights that it found are given in
    `lambda_t`.
    """

    papers = ("2212.08698", "2206.02779")
    family = "F03"
    edit_types = ("style", "color", "texture", "expression")
    needs = (c.INVERTED_PATH,)
    reads_seed = False

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance; 7.5 in the official code."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked; all of them in the official code."""
    lambda_t_star: float = Field(default=0.4, ge=0, le=1)
    """Share of the walked steps after which the weight changes; 20 of 50 in the official code."""
    lambda_t_default_1: float = Field(default=1.0, ge=0, le=1)
    """Weight of the source prompt until then; 1 in the official code."""
    lambda_t_default_2: float = Field(default=0.0, ge=0, le=1)
    """Weight of the source prompt from then on; 0 in the official code."""
    lambda_t: tuple[float, ...] = ()
    """Weights of the source prompt in equal parts of the walked steps, instead of those above."""

    @model_validator(mode="after")
    def _weights_are_shares(self) -> "DiffusionDisentanglement":
        if not all(0.0 <= weight <= 1.0 for weight in self.lambda_t):
            raise ValueError(f"lambda_t = {self.lambda_t}: each weight is 0 to 1")
        return self

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the source prompt too."""
        return replace(super().cost(num_inference_steps), text=2)

    def weight(self, place: int, num_walked: int) -> float:
        """Returns the weight of the source prompt in a walked step, counted from 0."""
        if self.lambda_t:
            return self.lambda_t[place * len(self.lambda_t) // num_walked]
        is_early = place < round(self.lambda_t_star * num_walked)
        return self.lambda_t_default_1 if is_early else self.lambda_t_default_2

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory, with mixed prompts."""
        target = batch.prompts([request.prompt for request in batch.requests])
        source = batch.prompts(batch.source_prompts())

        def mixed(step: Step) -> "PromptEmbeds":
            weight = self.weight(step.index - batch.walked.start, len(batch.walked))
            return mixed_prompts(target, source, weight)

        return Sampling(
            start_bchw=batch.trajectory_sbchw[batch.steps[0].index],
            branches={"text": BranchInputs(prompts=mixed)},
            hooks=[keep_outside_on_trajectory(batch)],
        )
