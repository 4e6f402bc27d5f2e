"""SDEdit (arXiv 2108.01073): adds noise to the source and denoises it towards the target prompt."""

from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import keep_outside
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.method import Framed
from overpaint.operators.diffusion.step_noise import NONE, FreshNoise
from overpaint.pipeline.operator import IN_FINGERPRINT_UNLESS_DEFAULT
from pydantic import Field


class SDEdit(TextGuided, Framed):
    """Noise on the source, then denoising towards the target prompt."""

    papers = ("2108.01073", "2206.02779")
    family = "F01"
    edit_types = ("style", "color", "texture")

    strength: float = Field(default=0.7, gt=0, le=1)
    """Share of the steps that are walked: how far towards noise the edit starts."""

    eta: float = Field(default=0.0, ge=0, le=1, json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT)
    """Fresh noise in each step: 0 is DDIM's, none; 1 is DDPM's, as in the paper."""

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from the noised sources; holds the latents outside the mask to them."""
        return Sampling(
            start_bchw=batch.noised_source,
            hooks=[keep_outside(batch)],
            noise=FreshNoise(generators=batch.generators, eta=self.eta) if self.eta else NONE,
        )
