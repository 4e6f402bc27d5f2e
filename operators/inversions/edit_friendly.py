"""Edit-friendly DDPM inversion (arXiv 2304.06140): noise that holds the source's structure.

Each level has noise of its own, independent of the others', so that the steps between them carry
more of the source than those of a DDPM would.
"""

from typing import TYPE_CHECKING

from overpaint.operators.controls.residuals import ResidualInversion
from overpaint.operators.diffusion.batch import Batch
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class EditFriendlyInversion(ResidualInversion):
    """A chain whose levels are noised independently, with the residual of each step."""

    papers = ("2304.06140",)
    family = "F04"

    num_inference_steps: int = Field(default=100, ge=1, le=1000)
    """Steps of the chain; `edit` walks the same ones. The paper's 100."""
    guidance_scale: float = Field(default=3.5, ge=0, le=100)
    """Scale of classifier-free guidance by the source prompt (`cfg_src` of the paper's code); 1 is
    unguided."""

    def chain(self, batch: Batch) -> "list[Tensor]":
        """Returns the sources with noise drawn anew for each level, equation 6."""
        from overpaint.operators.diffusion.latents import draw_noise

        clean = batch.contiguous_source_latents
        levels = [step.alpha_bar for step in batch.schedule.steps]
        noised = (
            level**0.5 * clean + (1.0 - level) ** 0.5 * draw_noise(batch.generators, clean)
            for level in levels
        )
        return [*noised, clean]
