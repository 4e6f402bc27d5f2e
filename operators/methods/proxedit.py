"""ProxEdit (arXiv 2306.05414): negative-prompt inversion that changes only what differs clearly.

The difference between the predictions of target and source prompt goes through a proximal operator,
which drops small values. In the last levels, what it drops is pulled to the source's trajectory.
"""

from collections.abc import Mapping
from dataclasses import replace

from overpaint.operators.controls.proximal import InversionGuidance, Norm, Proximal
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.schedule import ALL_STEPS, Window
from overpaint.operators.methods.negative_prompt_inversion import NegativePromptInversion
from pydantic import Field


class ProxEdit(NegativePromptInversion):
    """Negative-prompt inversion with proximal guidance, and guidance by the inversion.

    It is the paper's, not the official code's: that takes a soft threshold for `l0`, shrinks twice
    for `l1`, and takes the quantile over source and target together, where neighbours count.
    """

    papers = ("2306.05414", "2305.16807", "2208.01626")
    edit_types = ("replace", "color", "add", "remove")

    prox: Norm = "l0"
    """Norm whose proximal operator is applied: `l0` drops small differences and keeps the others
    as they are, `l1` makes those smaller too."""
    quantile: float = Field(default=0.7, ge=0, le=1)
    """Quantile of a row's absolute differences below which they are dropped; 0.7 in the paper. The
    official code's 0.7, which counts the source's zeros too, is 0.4 here; 0 keeps nearly all."""
    recon_t: int = Field(default=400, ge=0, le=1000)
    """Timestep, of 1000, below which latents are pulled to the source's trajectory; 400 in the
    official code. 0 never pulls."""
    recon_lr: float = Field(default=1.0, ge=0, le=1)
    """Share of the way by which they are pulled; 0.1 to 1 in the official code."""
    dilate_mask: int = Field(default=1, ge=0, le=64)
    """Latent pixels by which what is not pulled is dilated; 1 in the official code."""

    def branches(self) -> Mapping[str, Window]:
        """Returns those of Prompt-to-Prompt, and always the negative one."""
        return {**super().branches(), "negative": ALL_STEPS}

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory, with proximal guidance."""
        sampling, trajectory = super().sampling(batch), batch.trajectory_sbchw
        proximal = Proximal(inner=self.guidance, norm=self.prox, quantile=self.quantile)
        pull = InversionGuidance(
            proximal=proximal,
            source=lambda step: trajectory[step.index + 1],
            recon_t=self.recon_t,
            recon_lr=self.recon_lr,
            dilate_mask=self.dilate_mask,
        )
        return replace(sampling, guidance=proximal, hooks=[pull, *sampling.hooks])
