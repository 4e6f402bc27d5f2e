"""Text-guided editing along the source's own path to noise, kept to the mask where there is one.

Starts from the inverted noise (DDIM, arXiv 2010.02502), follows the target prompt with
classifier-free guidance, and holds what is outside the mask to the inverted path (Blended Latent
Diffusion, arXiv 2206.02779), which reproduces it exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.checkpoint import Checkpoint
from overpaint.operators.diffusion.method import TEXT_TO_IMAGE, Job, Method
from overpaint.pipeline.columns import INVERSION
from overpaint.pipeline.errors import RowError

if TYPE_CHECKING:
    from overpaint.operators.diffusion.inversion import Inversion
    from overpaint.operators.diffusion.weights import LatentModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    """The fields of `edit` that this method uses; steps, fit and resolution are the inversion's."""

    guidance_scale: float = 6.0
    guidance_rescale: float = 0.0
    strength: float = 0.7
    negative_prompt: str = ""


def evaluations(fields: Fields, num_inference_steps: int) -> int:
    """Two for each step walked: with the target prompt and with the negative one."""
    num_branches = 1 if fields.guidance_scale == 1.0 else 2
    return num_branches * max(1, round(fields.strength * num_inference_steps))


def load(checkpoint: Checkpoint) -> "LatentModel":
    """The model that `invert` uses too."""
    from overpaint.operators.diffusion.weights import load_latent_model

    return load_latent_model(checkpoint)


def edit(jobs: Sequence[Job], model: "LatentModel", fields: Fields) -> list[NDArray[np.float32]]:
    """Walks back from the noise at `strength`, towards the target prompt."""
    import torch
    from overpaint.operators.diffusion import autoencode, text
    from overpaint.operators.diffusion.blend import KeepOutside
    from overpaint.operators.diffusion.guidance import ClassifierFree
    from overpaint.operators.diffusion.loop import Branch, Controls, denoise
    from overpaint.operators.diffusion.schedule import make_schedule

    inversions = [_inversion(job, model) for job in jobs]
    path_sbcyx = torch.stack([inversion.path_scyx for inversion in inversions], dim=1)
    schedule = make_schedule(model.scheduler_config, len(path_sbcyx) - 1)
    steps = schedule.from_strength(fields.strength)
    branches = {"text": Branch(condition=text.embed(model, [job.prompt for job in jobs]))}
    if fields.guidance_scale != 1.0:
        negative = text.embed_negative(model, fields.negative_prompt, len(jobs))
        branches["negative"] = Branch(condition=negative)
    masks = [
        np.ones(job.picture.shape[:2], np.float32) if job.mask is None else job.mask for job in jobs
    ]
    mask = autoencode.latent_masks(masks, path_sbcyx[0])
    controls = Controls(
        guidance=ClassifierFree(
            guidance_scale=fields.guidance_scale, rescale=fields.guidance_rescale
        ),
        hooks=[KeepOutside(mask_b1yx=mask, source=lambda step: path_sbcyx[step.index + 1])],
    )
    latents = denoise(model, path_sbcyx[steps[0].index], schedule, steps, branches, controls)
    return autoencode.decode(model, latents)


def _inversion(job: Job, model: "LatentModel") -> "Inversion":
    if job.inversion is None or job.inversion.identity != model.identity:
        raise RowError(
            "inversion_mismatch", "the inversion was made with other weights than the edit's"
        )
    return job.inversion


METHOD = Method(
    name="ddim",
    summary="DDIM inversion and text guidance, kept to the mask where there is one",
    papers=("2010.02502", "2206.02779"),
    family="F02",
    classes=TEXT_TO_IMAGE,
    inputs=(INVERSION,),
    fields=Fields,
    evaluations=evaluations,
    load=load,
    edit=edit,
)
