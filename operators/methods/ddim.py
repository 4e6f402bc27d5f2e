"""Text-guided editing along the source's own path to noise, kept to the mask where there is one.

Starts from the inverted noise (DDIM, arXiv 2010.02502) and follows the target prompt with
classifier-free guidance. At first the words of the target look where those of the source did
(Prompt-to-Prompt, arXiv 2208.01626), which holds place and size; the source is asked along its
inverted path, which does not drift. What is outside the mask is held to that path (Blended Latent
Diffusion, arXiv 2206.02779), which reproduces it exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numpy import float32
from numpy.typing import NDArray
from overpaint.operators.diffusion.inversion import Inversion
from overpaint.operators.diffusion.method import TEXT_TO_IMAGE, Job, Method
from overpaint.operators.models.checkpoint import Checkpoint
from overpaint.pipeline.columns import INVERSION
from overpaint.pipeline.errors import RowError

if TYPE_CHECKING:
    from overpaint.operators.diffusion.attention import AttentionEdits
    from overpaint.operators.diffusion.latent_model import LatentModel
    from overpaint.operators.diffusion.sampling import Branch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    """The fields of `edit` that this method uses; steps, fit and resolution are the inversion's."""

    guidance_scale: float = 3.0
    guidance_rescale: float = 0.0
    strength: float = 0.8
    negative_prompt: str = ""
    cross_attention_share: float = 0.6


def evaluations(fields: Fields, num_inference_steps: int) -> int:
    """Two for each step walked, and one for each step in which the source's words are asked for."""
    num_branches = 1 if fields.guidance_scale == 1.0 else 2
    num_steps = max(1, round(fields.strength * num_inference_steps))
    return num_branches * num_steps + round(fields.cross_attention_share * num_steps)


def load(checkpoint: Checkpoint) -> "LatentModel":
    """The model that `invert` uses too."""
    from overpaint.operators.diffusion.latent_model import load_latent_model

    return load_latent_model(checkpoint)


def edit(jobs: Sequence[Job], model: "LatentModel", fields: Fields) -> list[NDArray[float32]]:
    """Walks back from the noise at `strength`, towards the target prompt."""
    import torch
    from overpaint.operators.controls import batch as compose
    from overpaint.operators.controls.guidance import ClassifierFree
    from overpaint.operators.controls.masking import KeepOutside
    from overpaint.operators.diffusion import latents as autoencode
    from overpaint.operators.diffusion.attention import NO_EDITS
    from overpaint.operators.diffusion.sampling import Controls, denoise
    from overpaint.operators.diffusion.schedule import make_schedule

    inversions = [_inversion(job, model) for job in jobs]
    path_sbcyx = torch.stack([inversion.path_scyx for inversion in inversions], dim=1)
    schedule = make_schedule(model.scheduler_config, len(path_sbcyx) - 1)
    steps = schedule.from_strength(fields.strength)
    first = steps[0].index
    looking = range(first, first + round(fields.cross_attention_share * len(steps)))
    branches = compose.text_branches(model, jobs, fields)
    if looking:
        branches["source"] = _source(model, inversions, path_sbcyx, looking)
    controls = Controls(
        guidance=ClassifierFree(
            guidance_scale=fields.guidance_scale, rescale=fields.guidance_rescale
        ),
        hooks=[
            KeepOutside(
                mask_b1yx=compose.latent_mask(jobs, path_sbcyx[0]),
                source=lambda step: path_sbcyx[step.index + 1],
            )
        ],
        attention=_words(model, jobs, inversions, looking) if looking else NO_EDITS,
    )
    latents = denoise(model, path_sbcyx[first], schedule, steps, branches, controls)
    return autoencode.decode(model, latents)


def _source(
    model: "LatentModel", inversions: Sequence[Inversion], path_sbcyx: "Tensor", steps: range
) -> "Branch":
    """The source's prompt, asked at the source's own latents."""
    from overpaint.operators.diffusion import prompts as text
    from overpaint.operators.diffusion.sampling import Branch

    return Branch(
        condition=text.embed(model, [inversion.prompt for inversion in inversions]),
        latents=lambda step: path_sbcyx[step.index],
        steps=steps,
    )


def _words(
    model: "LatentModel", jobs: Sequence[Job], inversions: Sequence[Inversion], steps: range
) -> "AttentionEdits":
    import torch
    from overpaint.operators.controls.prompt_to_prompt import SwapWords, align
    from overpaint.operators.diffusion import prompts as text
    from overpaint.operators.diffusion.attention import AttentionEdits

    words = [
        align(
            text.token_ids(model, inversion.prompt),
            text.token_ids(model, job.prompt),
            text.end_id(model),
        )
        for job, inversion in zip(jobs, inversions, strict=True)
    ]
    return AttentionEdits(maps=[SwapWords(words_bst=torch.stack(words), steps=steps)])


def _inversion(job: Job, model: "LatentModel") -> Inversion:
    made = job.inversion
    if made is None or (made.checkpoint, made.identity) != (model.checkpoint, model.identity):
        raise RowError(
            "inversion_mismatch", "the inversion was made with other weights than the edit's"
        )
    return made


METHOD = Method(
    name="ddim",
    summary="DDIM inversion, text guidance and the source's cross-attention, kept to the mask",
    papers=("2010.02502", "2208.01626", "2206.02779"),
    family="F05",
    classes=TEXT_TO_IMAGE,
    inputs=(INVERSION,),
    is_random=False,
    fields=Fields,
    evaluations=evaluations,
    load=load,
    edit=edit,
)
