"""Differential Diffusion (arXiv 2306.00950): a strength of its own for each pixel.

The source is noised fully and denoised. After each step the places whose strength has not come up
yet are set to the source at the same noise level (algorithm 1 of the paper): a place is free from
the step on at which SDEdit of its strength would start.
"""

from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import free_by_strength
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.method import Framed
from overpaint.pipeline.conditions import STRENGTH_MAP
from pydantic import Field


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
        return Sampling(start_bchw=batch.noised_source, hooks=[free_by_strength(batch)])
