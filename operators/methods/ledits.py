"""LEDITS (arXiv 2307.00522): SEGA's concepts on the noise of edit-friendly DDPM inversion."""

from dataclasses import replace

from overpaint.operators.controls.residuals import follow_residuals
from overpaint.operators.controls.semantic_guidance import Semantic
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.pipeline import columns as c
from overpaint.pipeline.conditions import EDIT_CONCEPTS
from pydantic import Field


class Ledits(Semantic):
    """Edit-friendly DDPM towards the target prompt, with semantic guidance by concepts."""

    papers = ("2307.00522", "2304.06140", "2301.12247")
    family = "F08"
    edit_types = ("color", "replace", "remove", "texture", "style")
    prompt = c.TARGET_PROMPT
    needs = (c.INVERTED_RESIDUALS, EDIT_CONCEPTS)
    reads_seed = False

    guidance_scale: float = Field(default=15.0, ge=0, le=100)
    """Scale of classifier-free guidance by the target prompt; 15 in the official demo."""
    strength: float = Field(default=0.64, gt=0, le=1)
    """Share of the chain's steps that are walked: 1 less the share that the demo skips, 36 of
    100."""
    edit_guidance_scale: float = Field(default=7.0, ge=0, le=100)
    """Strength of a concept's guidance; 7 in the official demo."""
    edit_threshold: float = Field(default=0.95, ge=-1, le=1)
    """Share of the least values, by which a concept does not guide; 0.95 in the official demo."""
    edit_warmup: float = Field(default=0.02, ge=0, le=1)
    """Share of the walked steps before concepts guide; one or two steps in the official demo."""

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the source's chain, adds its residuals and the guidance of the concepts."""
        return replace(
            follow_residuals(batch),
            guidance=self.semantic(batch),
            branches=self.concept_inputs(batch),
        )
