"""FISEdit (arXiv 2305.17423): only places that the new words concern are computed anew.

The first steps under source and target prompt show these places. Everywhere else the features of
all residual blocks are the source's, as if they came from a cache.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

from overpaint.operators.controls.latent_difference import LatentDifference, where_latents_part
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.methods.pfb_diff import PFBDiff
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class FISEdit(PFBDiff, LatentDifference):
    """The source's features wherever source and target prompt do not lead apart.

    The result of the paper without its gain in speed, which needs kernels that compute a part of a
    layer: here the source is computed beside the edit. A row's own mask limits the one found.
    """

    papers = ("2305.17423", "2010.02502")
    edit_types = ("replace", "remove", "color", "texture")
    needs = (c.INVERTED_PATH,)

    self_replace_step: float = Field(default=0.0, ge=0, le=1)
    """Share of the steps, the last ones, whose latents are not held to the source outside the mask;
    none in the paper."""
    masked_attn: bool = False
    """Whether new words attend to places inside the mask alone, in the coarse levels; not so in the
    paper."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the steps for the mask too, and the source prompt."""
        forward = self.num_latent_forwards(len(self.walked(num_inference_steps)))
        return super().cost(num_inference_steps) + Cost(forward=forward)

    def mask(self, batch: Batch) -> "Tensor":
        """Returns the places where both prompts lead apart, inside the row's mask, b1hw."""
        start = batch.trajectory_sbchw[batch.steps[0].index]
        found = where_latents_part(batch, start, batch.steps, batch.source_prompts(), self)
        return found * batch.mask_b1hw

    def layers(self, batch: Batch) -> Collection[str]:
        """Returns the inputs of all residual blocks."""
        return {layer.name for layer in batch.model.attention.layers if layer.kind == "input"}
