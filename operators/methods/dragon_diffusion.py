"""DragonDiffusion (arXiv 2307.02421): moves and resizes an object as drags say.

The inverted noise of the object is copied to its new place. In the first steps the gradient of an
energy makes the features there those of the object in the source, and all others those of their own
place; later steps look at the source's keys and values.
"""

from collections.abc import Mapping
from dataclasses import replace

from overpaint.operators.controls.correspondence import FeatureCorrespondence, Weights
from overpaint.operators.controls.dragging import (
    Dragged,
    ObjectFrom,
    RegionalNoise,
    dragged,
    keep_outside_of_drag,
)
from overpaint.operators.controls.features import RecordFeatures, decoder_blocks
from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.sharing import (
    ShareAttentionLater,
    self_attention_layers,
    source_on_trajectory,
)
from overpaint.operators.controls.warp import warp_of
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.energy import EnergyGuidance
from overpaint.operators.diffusion.schedule import ALL_STEPS, Window, steps_in
from overpaint.pipeline import columns as c
from overpaint.pipeline.conditions import MASK, POINTS
from overpaint.pipeline.cost import Cost
from pydantic import Field, model_validator


class DragonDiffusion(TextGuided):
    """Feature correspondence with a warped source, for moving and resizing an object.

    The row's points decide the warp: one drag is a shift; several are the shift and the scale that
    fit them best. Objects move by an affine warp instead of whole latent pixels. Features are those
    of the decoder's two blocks before the last, or of all where there are two; the paper's image
    prompt needs weights of its own and is left out, as are repeated steps.
    """

    papers = ("2307.02421",)
    family = "F16"
    edit_types = ("move", "resize")
    needs = (c.INVERTED_PATH, POINTS)
    uses = (MASK, c.MASK_PHRASE)

    guidance_scale: float = Field(default=4.0, ge=0, le=100)
    """Scale of classifier-free guidance; 4 in the official demo."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked; all of them in the paper."""
    object_from: ObjectFrom = "mask"
    """Rule for the object's old place: `mask` takes what of the mask stays in the mask when warped,
    `words` what the words of `mask_phrase` attend to in the source."""
    energy_scale: float = Field(default=40.0, ge=0, le=1e6)
    """Scale of the gradient; 500 times 0.08 in the official demo, on latents of 64 by 64."""
    energy_share: float = Field(default=0.6, ge=0, le=1)
    """Share of the walked steps with the gradient, from the first on; 30 of 50 in the official
    code, which leaves out some."""
    w_edit: float = Field(default=4.0, ge=0)
    """Weight of the object's likeness in its new place; 4 in the official demo."""
    w_content: float = Field(default=6.0, ge=0)
    """Weight of the likeness of everything else; 6 in the official demo."""
    w_contrast: float = Field(default=0.2, ge=0)
    """Weight of the unlikeness of the old place to the object; 0.2 in the official demo."""
    w_inpaint: float = Field(default=0.8, ge=0)
    """Weight of the old place's likeness to its surroundings; 0.8 in the official demo."""
    sde_strength: float = Field(default=0.4, ge=0, le=1)
    """Share of DDPM's noise in the old and new place; 0.4 in the official demo."""
    sde_start: float = Field(default=0.2, ge=0, le=1)
    """Share of the walked steps before that noise; 10 of 50 in the official code."""
    sde_end: float = Field(default=0.4, ge=0, le=1)
    """Share of the walked steps after which it ends; 20 of 50 in the official code."""
    attention_start: float = Field(default=0.1, ge=0, le=1)
    """Share of the walked steps before the decoder looks at the source's keys and values; 5 of 50
    in the official code, 1 is never."""

    @model_validator(mode="after")
    def _noise_has_steps(self) -> "DragonDiffusion":
        if self.sde_start > self.sde_end:
            raise ValueError(f"sde_start = {self.sde_start}: it is after sde_end = {self.sde_end}")
        return self

    @property
    def _guided(self) -> Window:
        return (0.0, self.energy_share if self.energy_scale else 0.0)

    @property
    def _mutual(self) -> Window:
        return (self.attention_start, 1.0)

    def branches(self) -> Mapping[str, Window]:
        """Returns those of the guidance, and the source while it is compared or looked at."""
        source = self._guided if self.attention_start == 1.0 else ALL_STEPS
        return {**super().branches(), "source": source}

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the search for the object by words, and the backward passes of the energy."""
        cost = super().cost(num_inference_steps)
        num_guided = len(steps_in(self._guided, self.walked(num_inference_steps)))
        if self.object_from == "words":
            cost = replace(cost, forward=cost.forward + 1, text=2)
        return cost + Cost(backward=num_guided)

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from the warped noise, and holds what is neither old nor new place."""
        drag = dragged(batch, warp_of(batch), self.object_from)
        noise = RegionalNoise(
            mask_b1hw=drag.either_b1hw,
            eta=self.sde_strength,
            steps=batch.window((self.sde_start, self.sde_end)),
            generators=batch.generators,
        )
        return Sampling(
            start_bchw=drag.moved(batch.trajectory_sbchw[batch.steps[0].index]),
            branches={"source": source_on_trajectory(batch)},
            attention=self._attention(batch),
            energy=self._energy(batch, drag),
            hooks=[noise, keep_outside_of_drag(batch, drag)],
        )

    def _energy(self, batch: Batch, drag: Dragged) -> EnergyGuidance | None:
        """Returns the guidance by features, in the half of the clean latents; None without it."""
        steps = batch.window(self._guided)
        if not steps:
            return None
        blocks = [block.name for block in decoder_blocks(batch)]
        weights = Weights(self.w_edit, self.w_content, self.w_contrast, self.w_inpaint)
        energy = FeatureCorrespondence(
            features=RecordFeatures(blocks=blocks[-3:-1] if len(blocks) > 3 else blocks),
            drag=drag,
            weights=weights,
        )
        return EnergyGuidance(
            energy=energy, scale=lambda _: self.energy_scale, steps=steps, into="x0"
        )

    def _attention(self, batch: Batch) -> AttentionEdits:
        """Returns the look of the decoder at the source."""
        decoder = [layer.name for layer in self_attention_layers(batch) if "up_" in layer.name]
        steps = batch.window(self._mutual)
        share = ShareAttentionLater(parts=("key", "value"), layers=decoder, steps=steps)
        return AttentionEdits(qkv=[share])
