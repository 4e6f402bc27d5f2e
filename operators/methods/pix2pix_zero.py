"""pix2pix-zero (arXiv 2302.03027): words look where the source's did, by a gradient in each step.

The latents of each step descend towards the cross-attention maps of the source on its inverted
path, and then take a guided step towards the target prompt, away from the source prompt.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from overpaint.operators.controls.attention_maps import RecordCrossAttention, map_distance
from overpaint.operators.controls.guidance import ClassifierFree
from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.method import LatentMethod
from overpaint.operators.diffusion.schedule import ALL_STEPS, Step, Window
from overpaint.operators.diffusion.state import StepState
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from torch import Tensor


class Pix2PixZero(LatentMethod):
    """Cross-attention guidance: latents descend towards the source's cross-attention maps.

    The edit direction is that from the source prompt to the target prompt. The loss is of the
    target's maps, as in the paper; the official code moves the latents of both predictions of the
    guidance apart, and goes on with those of the negative one.
    """

    papers = ("2302.03027", "2206.02779")
    family = "F05"
    edit_types = ("replace", "style", "texture")
    needs = (c.INVERTED_PATH,)
    reads_seed = False

    guidance_scale: float = Field(default=5.0, ge=0, le=100)
    """Scale of the guidance away from the source prompt; 5 in the official code."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked; all of them in the paper."""
    cross_attention_guidance_amount: float = Field(default=0.1, ge=0, le=100)
    """Step size of the descent towards the source's maps; 0.1 in the official code. 0 is none."""

    def branches(self) -> Mapping[str, Window]:
        """Returns those of the guidance, and each of the descent where there is one."""
        names = ["text", *(["negative"] if self.guidance_scale != 1.0 else [])]
        descent = ["source", "descent"] if self.cross_attention_guidance_amount else []
        return dict.fromkeys([*names, *descent], ALL_STEPS)

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the prompts, and the backward passes of the descent."""
        num_walked, branches = len(self.walked(num_inference_steps)), self.branches()
        return Cost(
            forward=num_walked * len(branches),
            backward=num_walked if "descent" in branches else 0,
            vae_decode=1,
            text=1 if len(branches) == 1 else 2,
        )

    def edited(self, batch: Batch) -> "Tensor":
        """Walks the trajectory: descends, then takes a guided step, in each of its steps."""
        prompts = {"text": batch.prompts([request.prompt for request in batch.requests])}
        branches = self.branches()
        if len(branches) > 1:
            prompts["negative"] = batch.prompts(batch.source_prompts())
        guided = {name: embeds for name, embeds in prompts.items() if name in branches}
        guidance = ClassifierFree(guidance_scale=self.guidance_scale)
        keep = keep_outside_on_trajectory(batch)
        latents = batch.trajectory_sbchw[batch.steps[0].index]
        for step in batch.steps:
            if "descent" in branches:
                latents = self._descend(batch, step, latents, prompts)
            predictions = batch.predict(latents, step, guided)
            state = StepState(step=step, latents_bchw=latents, predictions=predictions)
            latents = keep(batch.advance(latents, step, guidance(state)), state)
        return latents

    def _descend(
        self, batch: Batch, step: Step, latents: "Tensor", prompts: "Mapping[str, PromptEmbeds]"
    ) -> "Tensor":
        """Returns the latents bchw after a step towards the source's cross-attention maps."""
        import torch

        source, edit = RecordCrossAttention(branch="source"), RecordCrossAttention(branch="text")
        path = batch.trajectory_sbchw[step.index]
        batch.predict(path, step, {"source": prompts["negative"]}, source.edits)
        with torch.enable_grad():
            latents = latents.detach().requires_grad_()
            batch.predict(latents, step, {"text": prompts["text"]}, edit.edits)
            distance = map_distance(source.maps, edit.maps)
            (gradient,) = torch.autograd.grad(distance.sum(), latents)
        batch.model.spend(Cost(backward=len(latents)))
        return latents.detach() - self.cross_attention_guidance_amount * gradient
