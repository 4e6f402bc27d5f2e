"""Edit-friendly DDPM (arXiv 2304.06140): the source's own noise under the target prompt.

The code beside the paper sets the last noise map to zero, so that the source does not come back
exactly; here it is kept, as the paper's equations say.
"""

from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.residuals import follow_residuals
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.pipeline import columns as c
from pydantic import Field


class EditFriendly(TextGuided):
    """Denoising towards the target prompt with the noise that would give the source."""

    papers = ("2304.06140", "2206.02779")
    family = "F04"
    edit_types = ("color", "replace", "remove", "background", "style")
    needs = (c.INVERTED_RESIDUALS,)
    reads_seed = False

    guidance_scale: float = Field(default=15.0, ge=0, le=100)
    """Scale of classifier-free guidance (`cfg_tar` of the paper's code); 1 is unguided. With fewer
    steps than 100, or a model that knows its prompts well, far less is better."""
    strength: float = Field(default=0.64, gt=0, le=1)
    """Share of the chain's steps that are walked: 1 less the share that the paper skips, 36 of
    100."""

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the source's chain and adds its residuals."""
        return follow_residuals(batch)
