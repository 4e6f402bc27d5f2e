"""InstructPix2Pix (arXiv 2211.09800): a UNet that sees the source and follows an instruction.

Its 8 input channels are the noisy latents and the latents of the source.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.method import Job, Method
from overpaint.operators.framing.frame import Fit
from overpaint.operators.models.checkpoint import Checkpoint
from overpaint.pipeline.columns import INSTRUCTION

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel
    from overpaint.operators.diffusion.sampling import Branch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    """The fields of `edit` that this method uses."""

    num_inference_steps: int = 30
    guidance_scale: float = 7.5
    image_guidance_scale: float = 1.5
    negative_prompt: str = ""
    fit: Fit = "whole"
    crop_margin: float = 0.25
    resolution: int = 0


def evaluations(fields: Fields, num_inference_steps: int) -> int:
    """Three for each step: instruction and source, the source alone, neither."""
    del fields
    return 3 * num_inference_steps


def load(checkpoint: Checkpoint) -> "LatentModel":
    """An instruction model."""
    from overpaint.operators.diffusion.latent_model import load_latent_model

    return load_latent_model(checkpoint)


def edit(jobs: Sequence[Job], model: "LatentModel", fields: Fields) -> list[NDArray[np.float32]]:
    """Denoises from noise, seeing the source throughout."""
    from overpaint.operators.controls import batch as compose
    from overpaint.operators.controls.guidance import ImageAndText
    from overpaint.operators.diffusion import latents as autoencode
    from overpaint.operators.diffusion.sampling import Controls, denoise
    from overpaint.operators.diffusion.schedule import make_schedule

    schedule = make_schedule(model.scheduler_config, fields.num_inference_steps)
    source = compose.noise_source(model, jobs)
    # The paper's model was trained on latents that are not scaled.
    shown = source.clean_bcyx / float(model.vae.config.scaling_factor)
    guidance = ImageAndText(
        guidance_scale=fields.guidance_scale, image_guidance_scale=fields.image_guidance_scale
    )
    latents = denoise(
        model,
        source.noise_bcyx,
        schedule,
        schedule.steps,
        _branches(jobs, model, fields, shown),
        Controls(guidance=guidance),
    )
    return autoencode.decode(model, latents)


def _branches(
    jobs: Sequence[Job], model: "LatentModel", fields: Fields, shown_bcyx: "Tensor"
) -> dict[str, "Branch"]:
    import torch
    from overpaint.operators.diffusion import prompts as text
    from overpaint.operators.diffusion.sampling import Branch

    instruction = text.embed(model, [job.prompt for job in jobs])
    negative = text.embed_negative(model, fields.negative_prompt, len(jobs))
    return {
        "text": Branch(condition=instruction, channels_bcyx=shown_bcyx),
        "image": Branch(condition=negative, channels_bcyx=shown_bcyx),
        "negative": Branch(condition=negative, channels_bcyx=torch.zeros_like(shown_bcyx)),
    }


METHOD = Method(
    name="instruct_pix2pix",
    summary="an editor that sees the source and follows an instruction",
    papers=("2211.09800",),
    family="F11",
    part="instruction",
    classes=(
        "StableDiffusionInstructPix2PixPipeline",
        "StableDiffusionXLInstructPix2PixPipeline",
    ),
    prompt=INSTRUCTION,
    fields=Fields,
    evaluations=evaluations,
    load=load,
    edit=edit,
)
