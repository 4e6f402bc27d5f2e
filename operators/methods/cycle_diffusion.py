"""CycleDiffusion (arXiv 2210.05559): the source's own noise, of a chain from the posterior.

It is Edit-friendly DDPM with the inversion `cycle_diffusion` and other values. The pipeline in
diffusers mixes the rows of a batch under guidance; here they are independent.
"""

from overpaint.operators.methods.edit_friendly import EditFriendly
from pydantic import Field


class CycleDiffusion(EditFriendly):
    """Denoising towards the target prompt with noise decoded from the source."""

    papers = ("2210.05559", "2206.02779")

    guidance_scale: float = Field(default=2.0, ge=0, le=100)
    """Scale of classifier-free guidance; 1 is unguided. 2, as in diffusers' example."""
    strength: float = Field(default=0.8, gt=0, le=1)
    """Share of the chain's steps that are walked; diffusers' 0.8."""
