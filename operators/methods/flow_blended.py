"""Blended Latent Diffusion (arXiv 2206.02779) by a flow-matching transformer.

After each step the latents outside the mask are set to the source's at the same noise level.
"""

from overpaint.operators.controls.masking import keep_outside
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.flow_method import FlowMethod
from overpaint.operators.diffusion.method import Framed
from overpaint.pipeline.conditions import MASK
from pydantic import Field


class FlowBlended(FlowMethod, Framed):
    """Fills the mask with what the target prompt says, by a flow-matching transformer."""

    papers = ("2206.02779", "2209.03003")
    family = "F07"
    edit_types = ("add", "remove", "replace", "background")
    needs = (MASK,)

    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the steps that are walked; 1 starts from pure noise."""

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from the noised source, which is noise where `strength` is 1."""
        return Sampling(start_bchw=batch.noised_source, hooks=[keep_outside(batch)])
