"""Differential Diffusion (arXiv 2306.00950): a strength of its own for each pixel.

The source is noised fully and denoised. After each step the places whose strength has not come up
yet are set to the source at the same noise level (algorithm 1 of the paper): a place is free from
the step on at which SDEdit of its strength would start.
"""

from typing import TYPE_CHECKING

from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.method import Framed
from overpaint.operators.diffusion.state import Hook, StepState
from overpaint.pipeline.conditions import STRENGTH_MAP
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class DifferentialDiffusion(TextGuided, Framed):
    """SDEdit whose strength is the strength map's at each place.

    The official map has the opposite sense: there 1 keeps. Its code frees a place one step earlier
    where the strength is a whole number of steps; here a map of one value is SDEdit of that
    strength.
    """

    papers = ("2306.00950",)
    family = "F07"
    edit_types = ("background", "color", "replace", "remove", "texture")
    needs = (STRENGTH_MAP,)

    num_inference_steps: int = Field(default=100, ge=1, le=1000)
    """Denoising steps, and the number of strengths that can be told apart; 100 in the official
    script."""
    guidance_scale: float = Field(default=7.0, ge=0, le=100)
    """Scale of classifier-free guidance; 7 in the official script."""

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from the fully noised sources; frees places as their strength comes up."""
        return Sampling(start_bchw=batch.noised_source, hooks=[_free_by_strength(batch)])


def _free_by_strength(batch: Batch) -> Hook:
    """Returns the hook that holds each place to the source until its strength comes up."""
    from overpaint.operators.diffusion.latents import latent_masks

    maps = [request.values[STRENGTH_MAP.name] for request in batch.requests]
    strength_b1hw = latent_masks(maps, batch.source_latents)

    def hold(latents_bchw: "Tensor", state: StepState) -> "Tensor":
        walked_share = (state.step.index + 1) / len(batch.steps)
        is_free = strength_b1hw > 1.0 - walked_share
        source = batch.source.at(state.step.alpha_bar_next)
        return source.lerp(latents_bchw, is_free * batch.mask_b1hw)

    return hold
