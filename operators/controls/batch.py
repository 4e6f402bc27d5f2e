"""What text-guided methods have in common: branches, masks and noise of a batch of jobs.

Shapes: b rows, c latent channels, y and x latent pixels.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from overpaint.operators.controls.masking import NoisedSource
from overpaint.operators.diffusion import latents as autoencode
from overpaint.operators.diffusion import prompts as text
from overpaint.operators.diffusion.latent_model import LatentModel
from overpaint.operators.diffusion.method import Job
from overpaint.operators.diffusion.sampling import Branch
from torch import Tensor


class TextFields(Protocol):
    """The fields that classifier-free guidance reads."""

    @property
    def guidance_scale(self) -> float:
        """1 is unguided."""
        ...

    @property
    def negative_prompt(self) -> str:
        """What to stay away from."""
        ...


def text_branches(
    model: LatentModel,
    jobs: Sequence[Job],
    fields: TextFields,
    channels_bcyx: Tensor | None = None,
) -> dict[str, Branch]:
    """`text`, and `negative` where the guidance needs it.

    Args:
        model: whose text encoder is asked.
        jobs: whose prompts are embedded.
        fields: the guidance.
        channels_bcyx: more input channels of the UNet, the same for both.
    """
    prompts = text.embed(model, [job.prompt for job in jobs])
    branches = {"text": Branch(condition=prompts, channels_bcyx=channels_bcyx)}
    if fields.guidance_scale != 1.0:
        negative = text.embed_negative(model, fields.negative_prompt, len(jobs))
        branches["negative"] = Branch(condition=negative, channels_bcyx=channels_bcyx)
    return branches


def count_text_branches(fields: TextFields) -> int:
    """UNet evaluations of a row in a step of `text_branches`."""
    return 1 if fields.guidance_scale == 1.0 else 2


def latent_mask(jobs: Sequence[Job], like_bcyx: Tensor) -> Tensor:
    """What may change as b1yx, 0-1; everything in a row without a mask."""
    masks = [
        np.ones(job.picture.shape[:2], np.float32) if job.mask is None else job.mask for job in jobs
    ]
    return autoencode.latent_masks(masks, like_bcyx)


def encode_source(model: LatentModel, jobs: Sequence[Job]) -> Tensor:
    """Clean latents bcyx of the sources."""
    pictures = autoencode.to_tensor([job.picture for job in jobs], model.device)
    return autoencode.encode(model, pictures)


def noise_source(model: LatentModel, jobs: Sequence[Job]) -> NoisedSource:
    """The sources' latents at any noise level, each with noise from its row's own generator."""
    clean = encode_source(model, jobs)
    generators = autoencode.make_generators([job.seed for job in jobs])
    return NoisedSource(clean_bcyx=clean, noise_bcyx=autoencode.draw_noise(generators, clean))
