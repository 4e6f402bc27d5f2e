"""Fixed-point inversion: DDIM inversion with exacter steps (AIDI, arXiv 2309.04907).

DDIM inversion takes each prediction at the latents before the step instead of those after it; a few
fixed-point iterations find the latter (also FPI, arXiv 2312.12540).
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from overpaint.operators.controls.source_guidance import SourceGuided
from overpaint.operators.controls.trajectory import invert_to_paths
from overpaint.operators.diffusion.batch import Batch
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.operator import IN_FINGERPRINT_UNLESS_DEFAULT
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.sampling import Solver


class FixedPointInversion(SourceGuided):
    """DDIM inversion with fixed-point iterations in each step: exact, and dearer."""

    papers = ("2309.04907", "2312.12540")
    family = "F02"
    outputs = (c.INVERTED_PATH,)

    num_fixed_point_iterations: int = Field(default=3, ge=1, le=20)
    """Further network evaluations for each step."""
    solver: Literal["plain", "averaged", "anderson"] = Field(
        default="plain", json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT
    )
    """`plain` applies each step again (FPI), `averaged` takes the mean of the last two (AIDI_E),
    and `anderson` weights the last ones (AIDI_A): the most exact for its cost."""
    window: int = Field(default=3, ge=1, le=20, json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT)
    """Earlier iterates that `anderson` mixes with the last one."""
    guidance_scale: float = Field(
        default=1.0, ge=0, le=100, json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT
    )
    """Scale of classifier-free guidance by the source prompt; 1 is unguided. Above 2 the iterations
    need not converge."""

    def cost(self) -> Cost:
        """Counts the first prediction of each step and its iterations."""
        calls = self.num_inference_steps * (1 + self.num_fixed_point_iterations)
        return Cost(forward=calls * self.num_branches, vae_encode=1, text=1)

    def invert(self, batch: Batch) -> list[Mapping[str, Any]]:
        """Walks the sources back to noise under their prompts."""
        return invert_to_paths(batch, self.predictor(batch), self._solve())

    def _solve(self) -> "Solver":
        from overpaint.operators.diffusion import fixed_point

        iterations = self.num_fixed_point_iterations
        if self.solver == "anderson":
            return partial(fixed_point.anderson, iterations=iterations, window=self.window)
        solve = fixed_point.plain if self.solver == "plain" else fixed_point.averaged
        return partial(solve, iterations=iterations)
