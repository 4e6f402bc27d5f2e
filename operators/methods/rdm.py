"""Region-aware Diffusion (arXiv 2302.11797): words and CLIP guide latents inside a found region.

A text-to-image model with classifier-free guidance, CLIP's gradient, and a loss that keeps what is
outside. The region is that of a phrase, by CLIPSeg: a stage `mask` finds it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from overpaint.operators.controls.clip_guided import CLIPGuided
from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.state import Guidance
from overpaint.operators.models.tokenizing import TextLength
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds


class RDM(CLIPGuided, TextGuided):
    """Fills the mask by words and by CLIP's gradient, and keeps the rest by a loss too.

    The official code has LPIPS beside the squared change outside, and a model that also sees the
    masked source.
    """

    papers = ("2302.11797",)
    family = "F07"
    edit_types = ("replace", "remove", "background", "color")

    num_inference_steps: int = Field(default=100, ge=1, le=1000)
    """Denoising steps from noise to picture; 100 in the official code."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the steps that are walked; 1 starts from pure noise, as in the official code."""
    guidance_scale: float = Field(default=5.0, ge=0, le=100)
    """Scale of classifier-free guidance; 5 in the official code."""
    clip_guidance_lambda: float = Field(default=150.0, ge=0, le=1e7)
    """Weight of CLIP's distance to the target prompt, the official `clip_guidance_scale`; 150."""
    aug_num: int = Field(default=16, ge=1, le=64)
    """Augmentations of which CLIP's distance is the mean; 16 cutouts in the official code."""
    range_lambda: float = Field(default=0.0, ge=0, le=1e7)
    """Weight of pixels out of range; none in the official code."""
    l2_sim_lambda: float = Field(default=10000.0, ge=0, le=1e7)
    """Weight of the squared change outside the mask; 10000 in the official code."""

    @property
    def guide(self) -> Guidance:
        """Classifier-free guidance by the method's fields."""
        return self.guidance

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the target prompt too."""
        return replace(super().cost(num_inference_steps), text=1)

    def text_length(self, text: str, model: "object") -> TextLength | None:
        """Returns the length of a text for CLIP or the text encoder, whichever cuts more of it."""
        lengths = (
            CLIPGuided.text_length(self, text, model),
            TextGuided.text_length(self, text, model),
        )
        return max((each for each in lengths if each), key=lambda length: length.num_cut)

    def embedded(self, batch: Batch) -> "Mapping[str, PromptEmbeds]":
        """Returns the target prompts, and the negative one where there is guidance."""
        prompts = {"text": batch.prompts([request.prompt for request in batch.requests])}
        if "negative" in self.branches():
            prompts["negative"] = batch.negative_prompts(self.negative_prompt)
        return prompts
