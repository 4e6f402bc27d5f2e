"""Diffusion Brush (arXiv 2306.00219): new noise where a brush has been, late in the denoising.

The brush acts on the source's inverted path (DDIM, arXiv 2010.02502), in the middle of it: part of
the noise in the masked place is drawn anew, and the run goes on. The clean part stays, so that
light and layout do.
"""

from typing import TYPE_CHECKING

from overpaint.operators.controls.brush import brushed, feathered
from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import KeepOutside
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.pipeline import columns as c
from overpaint.pipeline.conditions import MASK
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class DiffusionBrush(TextGuided):
    """New noise in the mask at a step of the inverted path, which the target prompt then shapes.

    The paper gives no formula for the mixture; here it keeps the spread of the noise.
    """

    papers = ("2306.00219", "2010.02502", "2206.02779")
    family = "F01"
    edit_types = ("remove", "add", "replace", "texture", "color", "expression")
    needs = (c.INVERTED_PATH, MASK)

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance; 1 is unguided."""
    strength: float = Field(default=0.5, gt=0, le=1)
    """Share of the path that is walked after the brush: the step at which it acts."""
    noise_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the variance of the noise that the brush draws anew; 0 keeps the source's."""
    brush_feather: float = Field(default=0.05, ge=0, le=0.5)
    """Standard deviation by which the brush's edge is blurred, as a share of the shorter side."""

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the path, with new noise in the mask; holds the rest to the path."""
        path, first = batch.trajectory_sbchw, batch.steps[0].index
        mask = feathered(batch.mask_b1hw, self.brush_feather)
        return Sampling(
            start_bchw=path[first].lerp(self._brushed(batch), mask),
            hooks=[KeepOutside(mask_b1hw=mask, source=lambda step: path[step.index + 1])],
        )

    def _brushed(self, batch: Batch) -> "Tensor":
        from overpaint.operators.diffusion.latents import draw_noise

        path, step = batch.trajectory_sbchw, batch.steps[0]
        new = draw_noise(batch.generators, path[0])
        return brushed(path[step.index], path[step.index + 1], step, new, self.noise_share)
