"""PFB-Diff (arXiv 2306.16894): progressive feature blending, and attention that a mask limits.

The source runs along its inverted trajectory beside the edit. What enters the UNet's coarse
residual blocks is the source's outside the mask, and new words attend to places inside of it alone.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from overpaint.operators.controls.feature_blending import (
    BlendFeatures,
    KeepWordsInside,
    changed_words,
    coarse_layers,
)
from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import KeepOutside
from overpaint.operators.controls.sharing import source_on_trajectory
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.schedule import Window
from overpaint.operators.diffusion.state import Hook, StepState
from overpaint.pipeline import columns as c
from overpaint.pipeline.conditions import MASK
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class PFBDiff(TextGuided):
    """Features of the source outside the mask, blended in the coarse levels of the UNet.

    The official code is told the words' places in the prompt; here they are those that the source
    prompt lacks. For the middle block it takes the source's output, here its input. It blends
    latents by the level before a step; here by that after it, at which they are.
    """

    papers = ("2306.16894", "2010.02502")
    family = "F07"
    edit_types = ("replace", "remove", "background", "texture", "color")
    needs = (c.INVERTED_PATH, MASK)
    reads_seed = False

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance; 7.5 in the official code."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked, the official `ratio`; 1 there."""
    t_combine: int = Field(default=0, ge=0, lt=1000)
    """Timestep, of 1000, at which features cease to be blended; 0, the end, for objects in the
    official code, 200 for backgrounds."""
    self_replace_step: float = Field(default=0.5, ge=0, le=1)
    """Share of the steps, the last ones, whose latents are not held to the source outside the mask;
    0.5 for objects in the official code, 0.8 for backgrounds."""
    masked_attn: bool = True
    """Whether new words attend to places inside the mask alone, in the coarse levels."""

    @property
    def _blended(self) -> Window:
        return (0.0, 1.0 - self.t_combine / 1000)

    def branches(self) -> Mapping[str, Window]:
        """Returns those of the guidance, and the source while its features are blended."""
        return {**super().branches(), "source": self._blended}

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory; blends the source's features outside the mask."""
        mask = self.mask(batch)
        blend = BlendFeatures(
            mask_b1hw=mask, layers=self.layers(batch), steps=batch.window(self._blended)
        )
        return Sampling(
            start_bchw=batch.trajectory_sbchw[batch.steps[0].index],
            branches={"source": source_on_trajectory(batch)},
            attention=AttentionEdits(features=[blend], maps=self._maps(batch, mask)),
            hooks=[self._keep_at_first(batch, mask)],
        )

    def mask(self, batch: Batch) -> "Tensor":
        """Returns what may change, b1hw."""
        return batch.mask_b1hw

    def layers(self, batch: Batch) -> Collection[str]:
        """Returns the layers at which features are blended."""
        return coarse_layers(batch, "input")

    def _maps(self, batch: Batch, mask_b1hw: "Tensor") -> list[KeepWordsInside]:
        if not self.masked_attn:
            return []
        targets = [request.prompt for request in batch.requests]
        words = changed_words(batch.model, batch.source_prompts(), targets)
        layers = coarse_layers(batch, "cross")
        return [KeepWordsInside(words_bk=words, mask_b1hw=mask_b1hw, layers=layers)]

    def _keep_at_first(self, batch: Batch, mask_b1hw: "Tensor") -> Hook:
        """Returns the hook that holds the outside to the trajectory in the first steps."""
        trajectory = batch.trajectory_sbchw
        keep = KeepOutside(mask_b1hw=mask_b1hw, source=lambda step: trajectory[step.index + 1])
        held = batch.window((0.0, 1.0 - self.self_replace_step))

        def hold(latents_bchw: "Tensor", state: StepState) -> "Tensor":
            return keep(latents_bchw, state) if state.step.index in held else latents_bchw

        return hold
