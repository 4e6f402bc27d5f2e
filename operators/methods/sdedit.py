"""SDEdit (arXiv 2108.01073): adds noise to the source and denoises it towards the target prompt.

Where there is a mask, what lies outside is held to the source at every step (Blended Latent
Diffusion, arXiv 2206.02779).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.method import TEXT_TO_IMAGE, Job, Method
from overpaint.operators.framing.frame import Fit
from overpaint.operators.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    """The fields of `edit` that this method uses."""

    num_inference_steps: int = 30
    guidance_scale: float = 6.0
    guidance_rescale: float = 0.0
    strength: float = 0.7
    negative_prompt: str = ""
    fit: Fit = "whole"
    crop_margin: float = 0.25
    resolution: int = 0


def evaluations(fields: Fields, num_inference_steps: int) -> int:
    """Two for each step from `strength` on: with the target prompt and with the negative one."""
    num_branches = 1 if fields.guidance_scale == 1.0 else 2
    return num_branches * max(1, round(fields.strength * num_inference_steps))


def load(checkpoint: Checkpoint) -> "LatentModel":
    """A text-to-image model."""
    from overpaint.operators.diffusion.latent_model import load_latent_model

    return load_latent_model(checkpoint)


def edit(jobs: Sequence[Job], model: "LatentModel", fields: Fields) -> list[NDArray[np.float32]]:
    """Denoises the noised sources."""
    from overpaint.operators.controls import batch as compose
    from overpaint.operators.controls.guidance import ClassifierFree
    from overpaint.operators.controls.masking import KeepOutside
    from overpaint.operators.diffusion import latents as autoencode
    from overpaint.operators.diffusion.sampling import Controls, denoise
    from overpaint.operators.diffusion.schedule import make_schedule

    schedule = make_schedule(model.scheduler_config, fields.num_inference_steps)
    steps = schedule.from_strength(fields.strength)
    source = compose.noise_source(model, jobs)
    start = source.at(steps[0].alpha)
    mask = compose.latent_mask(jobs, start)
    controls = Controls(
        guidance=ClassifierFree(
            guidance_scale=fields.guidance_scale, rescale=fields.guidance_rescale
        ),
        hooks=[KeepOutside(mask_b1yx=mask, source=source)],
    )
    branches = compose.text_branches(model, jobs, fields)
    latents = denoise(model, start, schedule, steps, branches, controls)
    return autoencode.decode(model, latents)


METHOD = Method(
    name="sdedit",
    summary="noise on the source, then denoising towards the target prompt",
    papers=("2108.01073", "2206.02779"),
    family="F01",
    classes=TEXT_TO_IMAGE,
    fields=Fields,
    evaluations=evaluations,
    load=load,
    edit=edit,
)
