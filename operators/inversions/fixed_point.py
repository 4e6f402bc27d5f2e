"""Fixed-point inversion: DDIM inversion with exacter steps (AIDI, arXiv 2309.04907).

DDIM inversion takes each prediction at the latents before the step instead of those after it; a few
fixed-point iterations find the latter.
"""

from collections.abc import Mapping
from typing import Any

from overpaint.operators.controls.trajectory import invert_to_paths
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.inverting import Inversion
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost
from pydantic import Field


class FixedPointInversion(Inversion):
    """DDIM inversion with fixed-point iterations in each step: exact, and dearer."""

    papers = ("2309.04907", "2312.12540")
    family = "F02"
    outputs = (c.INVERTED_PATH,)

    num_fixed_point_iterations: int = Field(default=3, ge=1, le=20)
    """Further network evaluations for each step."""

    def cost(self) -> Cost:
        """Counts the first prediction of each step and its iterations."""
        forward = self.num_inference_steps * (1 + self.num_fixed_point_iterations)
        return Cost(forward=forward, vae_encode=1, text=1)

    def invert(self, batch: Batch) -> list[Mapping[str, Any]]:
        """Walks the sources back to noise under their prompts."""
        return invert_to_paths(batch, self.num_fixed_point_iterations)
