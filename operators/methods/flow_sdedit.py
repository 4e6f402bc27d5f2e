"""SDEdit (arXiv 2108.01073) by a flow-matching transformer, as diffusers' image-to-image has it."""

from overpaint.operators.controls.masking import keep_outside
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.flow_method import FlowMethod
from overpaint.operators.diffusion.method import Framed
from pydantic import Field


class FlowSDEdit(FlowMethod, Framed):
    """Noise on the source, then a flow towards the target prompt."""

    papers = ("2108.01073", "2209.03003")
    family = "F01"
    edit_types = ("style", "color", "texture")

    strength: float = Field(default=0.7, gt=0, le=1)
    """Share of the steps that are walked: how far towards noise the edit starts."""

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from the noised sources; holds the latents outside the mask to them."""
        return Sampling(start_bchw=batch.noised_source, hooks=[keep_outside(batch)])
