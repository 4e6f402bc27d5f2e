"""ReDiffuser (arXiv 2305.04651): words look where they do while the source is drawn again.

From the noise of the inverted source, two runs go side by side: one draws the source again under a
rich prompt, such as a captioner's, the other the edit under that prompt with the edit in it. In
each step the cooperative update brings their cross-attention maps together.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from overpaint.operators.controls.attention_maps import RecordCrossAttention, map_distance
from overpaint.operators.controls.guidance import ClassifierFree
from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.schedule import ALL_STEPS, Step, Window
from overpaint.operators.diffusion.state import StepState
from overpaint.operators.methods.pix2pix_zero import Pix2PixZero
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from torch import Tensor


class ReDiffuser(Pix2PixZero):
    """Cross-attention guidance by a regeneration of the source, which is updated with the edit.

    The edit direction is that from the source prompt to the target prompt, which `caption` and
    `instruct` find. The authors have no public code: parameters are pix2pix-zero's.
    """

    papers = ("2305.04651", "2302.03027")
    family = "F18"

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance, of the edit and of the regeneration."""
    cooperative_update: bool = True
    """Whether the regeneration's latents descend too, towards the maps of the edit."""

    def branches(self) -> Mapping[str, Window]:
        """Returns those of both runs, and of the update where there is one."""
        names = ["text", "source"]
        if self.guidance_scale != 1.0:
            names += ["negative", "source_negative"]
        if self.cross_attention_guidance_amount:
            names += ["descent", "source_descent"]
        return dict.fromkeys(names, ALL_STEPS)

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the prompts, and the backward passes of the update."""
        num_walked = len(self.walked(num_inference_steps))
        num_updated = 2 if self.cooperative_update else 1
        is_updated = self.cross_attention_guidance_amount > 0
        return Cost(
            forward=num_walked * len(self.branches()),
            backward=num_walked * num_updated if is_updated else 0,
            vae_decode=1,
            text=2,
        )

    def edited(self, batch: Batch) -> "Tensor":
        """Walks both runs from the inverted noise: updates, then takes a guided step of each."""
        text = batch.prompts([request.prompt for request in batch.requests])
        source = batch.prompts(batch.source_prompts())
        keep = keep_outside_on_trajectory(batch)
        latents = again = batch.trajectory_sbchw[batch.steps[0].index]
        for step in batch.steps:
            if self.cross_attention_guidance_amount:
                latents, again = self._updated(batch, step, latents, again, (text, source))
            state = self._state(batch, step, latents, text)
            latents = keep(self._advance(batch, state), state)
            again = self._advance(batch, self._state(batch, step, again, source))
        return latents

    def _state(
        self, batch: Batch, step: Step, latents: "Tensor", prompts: "PromptEmbeds"
    ) -> StepState:
        asked = {"text": prompts}
        if self.guidance_scale != 1.0:
            asked["negative"] = batch.negative_prompts("")
        predictions = batch.predict(latents, step, asked)
        return StepState(step=step, latents_bchw=latents, predictions=predictions)

    def _advance(self, batch: Batch, state: StepState) -> "Tensor":
        guidance = ClassifierFree(guidance_scale=self.guidance_scale)
        return batch.advance(state.latents_bchw, state.step, guidance(state))

    def _updated(
        self,
        batch: Batch,
        step: Step,
        latents: "Tensor",
        again: "Tensor",
        prompts: "tuple[PromptEmbeds, PromptEmbeds]",
    ) -> "tuple[Tensor, Tensor]":
        """Returns the latents bchw of both runs after a step towards each other's maps."""
        import torch

        edit, source = RecordCrossAttention(branch="text"), RecordCrossAttention(branch="source")
        with torch.enable_grad():
            latents = latents.detach().requires_grad_()
            again = again.detach().requires_grad_(self.cooperative_update)
            batch.predict(latents, step, {"text": prompts[0]}, edit.edits)
            batch.predict(again, step, {"source": prompts[1]}, source.edits)
            distance = map_distance(source.maps, edit.maps)
            moved = [latents]
            if self.cooperative_update:
                distance = distance + map_distance(edit.maps, source.maps)
                moved.append(again)
            gradients = torch.autograd.grad(distance.sum(), moved)
        batch.model.spend(Cost(backward=len(latents) * len(moved)))
        size = self.cross_attention_guidance_amount
        after = [at.detach() - size * by for at, by in zip(moved, gradients, strict=True)]
        return after[0], after[1] if self.cooperative_update else again.detach()
