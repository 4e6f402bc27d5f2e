"""Diffusion Self-Guidance (arXiv 2306.00986): places, sizes and looks of objects by attention.

The attention to an object's words says where it is, how large and of what outline. The gradient of
an energy brings these properties of the edit to those of the source, warped as the drags say, or
the attention into a box.
"""

from collections.abc import Mapping

from overpaint.operators.controls.features import RecordFeatures, decoder_blocks
from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.controls.sharing import source_on_trajectory
from overpaint.operators.controls.warp import warp_of
from overpaint.operators.controls.word_objects import word_objects
from overpaint.operators.controls.word_properties import PropertyWeights, WordProperties
from overpaint.operators.controls.words import RecordWords
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.energy import EnergyGuidance
from overpaint.operators.diffusion.schedule import Window, steps_in
from overpaint.pipeline import columns as c
from overpaint.pipeline.conditions import BOXES, MASK, POINTS
from overpaint.pipeline.cost import Cost
from pydantic import Field


class SelfGuidance(TextGuided):
    """Guidance by properties of attention: centroid, size, shape, appearance, and inside a region.

    The object is that of `mask_phrase`, or that of a new box. Its wanted properties are those of
    the source on its inverted path. The row's points decide their warp: one drag is a shift,
    several are the shift and scale that fit them best, none keeps them. The region is the object's
    box, or the mask. Weights of the paper are of a model that is not public; here all are alike.
    """

    papers = ("2306.00986",)
    family = "F16"
    edit_types = ("move",)
    needs = (c.INVERTED_PATH,)
    uses = (c.MASK_PHRASE, POINTS, BOXES, MASK)
    reads_seed = False

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance; 7.5 in public code."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked; all of them in the paper."""
    self_guidance_scale: float = Field(default=300.0, ge=0, le=1e6)
    """Scale of the gradient, beside the level's own spread of noise."""
    guidance_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the walked steps with the gradient, from the first on; 25 of 50 in public code."""
    centroid_weight: float = Field(default=1.0, ge=0)
    """Weight of the object's place."""
    size_weight: float = Field(default=1.0, ge=0)
    """Weight of the object's size."""
    shape_weight: float = Field(default=1.0, ge=0)
    """Weight of the object's outline."""
    appearance_weight: float = Field(default=1.0, ge=0)
    """Weight of the object's looks."""
    inside_weight: float = Field(default=0.0, ge=0)
    """Weight of the attention outside the object's box, or the mask."""

    @property
    def _guided(self) -> Window:
        return (0.0, self.guidance_share if self.self_guidance_scale else 0.0)

    def branches(self) -> Mapping[str, Window]:
        """Returns those of the guidance, and the source while properties are compared."""
        return {**super().branches(), "source": self._guided}

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the backward passes of the energy."""
        guided = steps_in(self._guided, self.walked(num_inference_steps))
        return super().cost(num_inference_steps) + Cost(backward=len(guided))

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory; holds what is masked out to it."""
        return Sampling(
            start_bchw=batch.trajectory_sbchw[batch.steps[0].index],
            branches={"source": source_on_trajectory(batch)},
            energy=self._energy(batch) if batch.window(self._guided) else None,
            hooks=[keep_outside_on_trajectory(batch)],
        )

    def _energy(self, batch: Batch) -> EnergyGuidance:
        """Returns the guidance, in both halves of the step."""
        found = word_objects(batch)
        energy = WordProperties(
            words=RecordWords(weights={"source": found.source_bk, "text": found.target_bk}),
            features=RecordFeatures(blocks=[decoder_blocks(batch)[-1].name]),
            warp=warp_of(batch, is_needed=False),
            region_b1hw=found.region_b1hw,
            weights=PropertyWeights(
                centroid=self.centroid_weight,
                size=self.size_weight,
                shape=self.shape_weight,
                appearance=self.appearance_weight,
                inside=self.inside_weight,
            ),
            in_source_b=found.source_bk.amax(dim=1),
            has_region_b=found.has_region_b,
        )
        return EnergyGuidance(
            energy=energy,
            scale=lambda step: self.self_guidance_scale * (1.0 - step.alpha_bar) ** 0.5,
            steps=batch.window(self._guided),
        )
