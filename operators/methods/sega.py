"""SEGA (arXiv 2301.12247): concepts lead the denoising of an inverted source.

The paper generates pictures; here the source's inverted trajectory (DDIM, arXiv 2010.02502) takes
the place of noise, and the prompt under which it was inverted that of the paper's prompt.
"""

from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.controls.semantic_guidance import Semantic
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.pipeline import columns as c
from overpaint.pipeline.conditions import EDIT_CONCEPTS
from pydantic import Field


class Sega(Semantic):
    """Semantic guidance: phrases to add and to remove, each where it matters most."""

    papers = ("2301.12247", "2010.02502", "2206.02779")
    family = "F08"
    edit_types = ("color", "texture", "style", "remove", "expression")
    needs = (c.INVERTED_PATH, EDIT_CONCEPTS)
    reads_seed = False

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance by the source prompt; 7.5 in diffusers. 1 is unguided, and
    keeps more of a source that was inverted so."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked; all of them in the paper."""

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory; adds the guidance of the concepts."""
        return Sampling(
            start_bchw=batch.trajectory_sbchw[batch.steps[0].index],
            guidance=self.semantic(batch),
            branches=self.concept_inputs(batch),
            hooks=[keep_outside_on_trajectory(batch)],
        )
