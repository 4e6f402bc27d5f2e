"""Blended Diffusion (arXiv 2111.14818): CLIP's gradient fills a mask, by a model without words.

The model predicts under no prompt at all; only CLIP knows what is wanted. After each step what is
outside the mask is set to the source at that level.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from overpaint.operators.controls.clip_guided import CLIPGuided
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.state import Guidance
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds


class BlendedDiffusion(CLIPGuided):
    """Fills the mask by the gradient of CLIP's distance to the target prompt.

    The paper's model makes pixels; here the gradient goes through the decoder of latents, and the
    range is that of the picture of which CLIP sees the inside. The best of several, which the paper
    ranks by CLIP, is a matter of candidates.
    """

    papers = ("2111.14818",)
    family = "F07"
    edit_types = ("replace", "add", "remove", "background", "color")

    num_inference_steps: int = Field(default=100, ge=1, le=1000)
    """Denoising steps from noise to picture; 100 in the official code."""

    @property
    def guide(self) -> Guidance:
        """The prediction under the empty prompt."""
        return lambda state: state.predictions["text"]

    def embedded(self, batch: Batch) -> "Mapping[str, PromptEmbeds]":
        """Returns the empty prompt."""
        return {"text": batch.negative_prompts("")}
