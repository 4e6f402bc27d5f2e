"""Watch Your Steps (arXiv 2308.08947): an instruction editor that changes only relevant places.

Two predictions show where the instruction matters; there InstructPix2Pix edits, and everything else
is held to the source, as latents in every step and as pixels in the end.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.controls.masking import KeepOutside
from overpaint.operators.controls.relevance import Relevance, relevant
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.methods.instruct_pix2pix import InstructPix2Pix
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel
    from torch import Tensor


class WatchYourSteps(InstructPix2Pix, Relevance):
    """InstructPix2Pix, kept to the places for which the instruction matters.

    A row's own mask limits what is found. The official code holds latents to the source at the
    level before a step; here it is that after the step, at which they are.
    """

    papers = ("2308.08947", "2211.09800")
    family = "F07"
    edit_types = ("add", "replace", "color", "texture", "expression")

    num_inference_steps: int = Field(default=20, ge=1, le=1000)
    """Denoising steps; 20 in the official code."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the predictions for the relevance too."""
        return super().cost(num_inference_steps) + Cost(forward=self.num_relevance_forwards)

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from the noised sources; holds what is not relevant to them."""
        keep = KeepOutside(
            mask_b1hw=self._mask(batch), source=lambda step: batch.source.at(step.alpha_bar_next)
        )
        return replace(super().sampling(batch), start_bchw=batch.noised_source, hooks=[keep])

    def edit(
        self, requests: Sequence[EditRequest], model: "LatentModel"
    ) -> list[NDArray[np.float32]]:
        """Edits the batch, and puts the source's pixels where nothing is relevant."""
        steps = self.num_inference_steps
        batch = Batch(requests, model, num_inference_steps=steps, walked=self.walked)
        sampling = self.sampling(batch)
        edited = batch.decode(batch.run(self.branches(), sampling))
        (keep,) = sampling.hooks
        assert isinstance(keep, KeepOutside)
        side_px = model.factor_px
        masks = keep.mask_b1hw.repeat_interleave(side_px, 2).repeat_interleave(side_px, 3)
        return [
            request.picture + (picture - request.picture) * mask
            for request, picture, mask in zip(
                requests, edited, masks.permute(0, 2, 3, 1).cpu().numpy(), strict=True
            )
        ]

    def _mask(self, batch: Batch) -> "Tensor":
        """Returns what may change, b1hw."""
        is_found = relevant(batch, self, self.negative_prompt) > 1.0
        return is_found * batch.mask_b1hw
