"""Null-text guidance cartoon (arXiv 2305.06710): a disturbed negative prediction flattens pictures.

The source is noised with one noise and denoised under a prompt; meanwhile the negative prediction
is made at other latents: those of some steps ago (rollback disturbance), or the source itself
(image disturbance). Guidance then leads away from fine detail.
"""

from collections.abc import Mapping
from typing import Literal

from overpaint.operators.controls.disturbance import Disturbed, Rollback
from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import keep_outside
from overpaint.operators.diffusion.batch import Batch, BranchInputs, Sampling
from overpaint.operators.diffusion.method import Framed
from overpaint.operators.diffusion.schedule import ALL_STEPS, Window
from pydantic import Field


class NullTextCartoon(TextGuided, Framed):
    """SDEdit whose negative prediction is disturbed, which draws the source as a cartoon.

    The official code draws the noise once and for all from a file; here it is of the row's seed.
    """

    papers = ("2305.06710", "2206.02779")
    family = "F08"
    edit_types = ("style",)

    num_inference_steps: int = Field(default=100, ge=1, le=1000)
    """Denoising steps of the schedule; 100 in the official code."""
    guidance_scale: float = Field(default=10.0, ge=0, le=100)
    """Scale of classifier-free guidance; 10 in the official code."""
    strength: float = Field(default=0.4, gt=0, le=1)
    """Share of the steps that are walked, from the one on at which disturbance starts; timestep 200
    to 400 of 1000 in the official code."""
    disturbance: Literal["rollback", "image"] = "rollback"
    """Latents of the negative prediction: those of some steps ago, or the source's."""
    rollback: float = Field(default=0.2, ge=0, le=1)
    """Share of the schedule's steps that the negative prediction lags behind; 0.1 to 0.3 in the
    official code."""

    def branches(self) -> Mapping[str, Window]:
        """Returns those of the guidance; there always is some."""
        return {"text": ALL_STEPS, "negative": ALL_STEPS}

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from the noised sources, with disturbed guidance."""
        lag = Rollback(
            num_steps=round(self.rollback * len(batch.schedule.steps)),
            before_run=lambda step: batch.source.at(step.alpha_bar),
            levels=batch.schedule.steps,
        )
        is_image = self.disturbance == "image"
        negative_at = (lambda step: batch.source_latents) if is_image else lag.at
        return Sampling(
            start_bchw=batch.noised_source,
            guidance=Disturbed(
                batch=batch, guidance_scale=self.guidance_scale, negative_at=negative_at
            ),
            branches={"negative": BranchInputs(latents=negative_at)},
            hooks=[keep_outside(batch), lag],
        )
