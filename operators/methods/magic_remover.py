"""MagicRemover (arXiv 2310.02848): removes an object by making attention forget its words.

The source is sampled again along its inverted path, with its own keys and values. The gradient of
the attention to the object's words enters the noise of each step; what is neither the object nor
attended to is held to the source.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from overpaint.operators.controls.erasure import Erase, KeepOutsideErased
from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.sharing import (
    ShareAttentionLater,
    self_attention_layers,
    source_on_trajectory,
)
from overpaint.operators.controls.words import RecordWords, phrase_weights, phrases_of
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.energy import EnergyGuidance
from overpaint.operators.diffusion.schedule import ALL_STEPS, Window
from overpaint.pipeline import columns as c
from overpaint.pipeline.conditions import MASK
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class MagicRemover(TextGuided):
    """Attention guidance that removes the object of `mask_phrase`, under the source prompt.

    The greatest attention, to which all is scaled, is that of a row's own first step; in public
    code it is that of the first picture ever edited. The second move of each step of the noisier
    half, which that code makes, is left out.
    """

    papers = ("2310.02848",)
    family = "F16"
    edit_types = ("remove",)
    prompt = c.SOURCE_PROMPT
    needs = (c.INVERTED_PATH, c.MASK_PHRASE)
    uses = (MASK,)
    reads_seed = False

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance; 7.5 in public code."""
    strength: float = Field(default=0.85, gt=0, le=1)
    """Share of the trajectory's steps that are walked; 0.85 in public code."""
    energy_scale: float = Field(default=1.0, gt=0, le=1e6)
    """Scale of the gradient; 1 in public code."""
    attention_quantile: float = Field(default=0.8, ge=0, le=1)
    """Share of the places that are not among those most attended to; 0.8 in public code."""
    object_threshold: float = Field(default=0.25, ge=0, le=1)
    """Share of the greatest attention in the clean source above which a place is the object's;
    0.25 in public code."""

    def branches(self) -> Mapping[str, Window]:
        """Returns those of the guidance, and the source."""
        return {**super().branches(), "source": ALL_STEPS}

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the search for the object, the one prompt, and the backward passes."""
        cost = super().cost(num_inference_steps)
        num_walked = len(self.walked(num_inference_steps))
        return replace(cost, forward=cost.forward + 1, text=1) + Cost(backward=num_walked)

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory, with the source's keys and values in every layer."""
        trajectory = batch.trajectory_sbchw
        prompts = [request.prompt for request in batch.requests]
        weights = phrase_weights(batch.model, prompts, phrases_of(batch))
        height, width = trajectory.shape[3:]
        energy = Erase(
            words=RecordWords(weights={"text": weights}),
            size=(height, width),
            quantile=self.attention_quantile,
        )
        keep = KeepOutsideErased(
            energy=energy,
            object_b1hw=self._object(batch, weights, (height, width)),
            mask_b1hw=batch.mask_b1hw,
            source=lambda step: trajectory[step.index + 1],
        )
        layers = [layer.name for layer in self_attention_layers(batch)]
        share = ShareAttentionLater(parts=("key", "value"), layers=layers, steps=batch.walked)
        return Sampling(
            start_bchw=trajectory[batch.steps[0].index],
            branches={"source": source_on_trajectory(batch)},
            attention=AttentionEdits(qkv=[share]),
            energy=EnergyGuidance(
                energy=energy, scale=lambda _: self.energy_scale, steps=batch.walked, into="eps"
            ),
            hooks=[keep],
        )

    def _object(self, batch: Batch, weights: "Tensor", size: tuple[int, int]) -> "Tensor":
        """Returns the object b1hw, 0 or 1, by the attention in the last step of the source."""
        words, step = RecordWords(weights={"source": weights}), batch.steps[-1]
        prompts = {"source": batch.prompts([request.prompt for request in batch.requests])}
        batch.predict(batch.trajectory_sbchw[step.index], step, prompts, words.edits)
        attention = words.mean("source", size)
        greatest = attention.amax(dim=(1, 2, 3), keepdim=True)
        return (attention > self.object_threshold * greatest).float()
