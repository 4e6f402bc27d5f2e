"""Fills the mask with what the target prompt says, seeing what lies around it.

A checkpoint trained to inpaint has 9 input channels: the noisy latents, the mask, and the latents
of the source without what is masked (as Stable Diffusion's own, after arXiv 2112.10752). With a
plain text-to-image checkpoint of 4 channels, what lies outside is held to the source at every step
(Blended Latent Diffusion, arXiv 2206.02779).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.method import TEXT_TO_IMAGE, Job, Method
from overpaint.operators.framing.frame import Fit
from overpaint.operators.models.checkpoint import Checkpoint
from overpaint.pipeline.columns import MASK_IMAGE
from overpaint.pipeline.errors import RowError

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel
    from torch import Tensor

NUM_INPAINTING_CHANNELS = 9


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    """The fields of `edit` that this method uses."""

    num_inference_steps: int = 30
    guidance_scale: float = 6.0
    guidance_rescale: float = 0.0
    strength: float = 1.0
    negative_prompt: str = ""
    fit: Fit = "whole"
    crop_margin: float = 0.25
    resolution: int = 0


def evaluations(fields: Fields, num_inference_steps: int) -> int:
    """Two for each step from `strength` on: with the target prompt and with the negative one."""
    num_branches = 1 if fields.guidance_scale == 1.0 else 2
    return num_branches * max(1, round(fields.strength * num_inference_steps))


def load(checkpoint: Checkpoint) -> "LatentModel":
    """An inpainting or a text-to-image model."""
    from overpaint.operators.diffusion.latent_model import load_latent_model

    return load_latent_model(checkpoint)


def edit(jobs: Sequence[Job], model: "LatentModel", fields: Fields) -> list[NDArray[np.float32]]:
    """Denoises from noise (at `strength` 1) or from the noised source."""
    from overpaint.operators.controls import batch as compose
    from overpaint.operators.controls.guidance import ClassifierFree
    from overpaint.operators.controls.masking import KeepOutside
    from overpaint.operators.diffusion import latents as autoencode
    from overpaint.operators.diffusion.sampling import Controls, denoise
    from overpaint.operators.diffusion.schedule import make_schedule

    if any(job.mask is None for job in jobs):
        raise RowError("mask_missing", "method 'inpaint' needs a mask")
    schedule = make_schedule(model.scheduler_config, fields.num_inference_steps)
    steps = schedule.from_strength(fields.strength)
    source = compose.noise_source(model, jobs)
    is_trained = model.unet.config.in_channels == NUM_INPAINTING_CHANNELS
    mask = compose.latent_mask(jobs, source.clean_bcyx)
    controls = Controls(
        guidance=ClassifierFree(
            guidance_scale=fields.guidance_scale, rescale=fields.guidance_rescale
        ),
        hooks=[] if is_trained else [KeepOutside(mask_b1yx=mask, source=source)],
    )
    channels = _channels(jobs, model, mask) if is_trained else None
    branches = compose.text_branches(model, jobs, fields, channels)
    start = source.noise_bcyx if fields.strength == 1.0 else source.at(steps[0].alpha)
    latents = denoise(model, start, schedule, steps, branches, controls)
    return autoencode.decode(model, latents)


def _channels(jobs: Sequence[Job], model: "LatentModel", mask_b1yx: "Tensor") -> "Tensor":
    """Mask and masked source, 5 channels, as StableDiffusionInpaintPipeline prepares them."""
    import torch
    from overpaint.operators.diffusion import latents as autoencode

    masks = np.stack([np.zeros(1) if job.mask is None else job.mask for job in jobs])
    pictures = autoencode.to_tensor([job.picture for job in jobs], model.device)
    kept = torch.from_numpy(masks < 0.5).to(pictures)[:, None]
    shown = autoencode.encode(model, pictures * kept)
    return torch.cat([(mask_b1yx >= 0.5).to(shown), shown], dim=1)


METHOD = Method(
    name="inpaint",
    summary="fills the mask with what the target prompt says",
    papers=("2112.10752", "2206.02779"),
    family="F09",
    classes=(
        "StableDiffusionInpaintPipeline",
        "StableDiffusionXLInpaintPipeline",
        *TEXT_TO_IMAGE,
    ),
    inputs=(MASK_IMAGE,),
    fields=Fields,
    evaluations=evaluations,
    load=load,
    edit=edit,
)
