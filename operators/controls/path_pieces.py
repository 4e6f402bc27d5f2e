"""Pieces of an inverted path: some steps walked towards the clean end, or back towards noise.

Shapes: b rows, c latent channels, h and w latent pixels.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from overpaint.operators.controls.guidance import ClassifierFree
from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.schedule import Step
from overpaint.operators.diffusion.state import StepState

if TYPE_CHECKING:
    from overpaint.operators.diffusion.sampling import Predictor
    from torch import Tensor


def denoised(
    batch: Batch, latents_bchw: "Tensor", steps: Sequence[Step], predictor: "Predictor"
) -> "list[Tensor]":
    """Returns the latents before each step and after the last; the path outside the mask.

    Args:
        batch: rows with inverted sources.
        latents_bchw: latents before the first step.
        steps: from noisy to clean.
        predictor: guided prediction.
    """
    import torch

    keep, run = keep_outside_on_trajectory(batch), [latents_bchw]
    with torch.no_grad():
        for step in steps:
            after = batch.advance(run[-1], step, predictor(run[-1], step))
            state = StepState(step=step, latents_bchw=run[-1], predictions={})
            run.append(keep(after, state))
    return run


def taken_back(batch: Batch, latents_bchw: "Tensor", steps: Sequence[Step]) -> "Tensor":
    """Returns latents after DDIM inversion of some steps under the source prompts.

    Args:
        batch: rows with inverted sources.
        latents_bchw: latents after the last of the steps.
        steps: from noisy to clean.
    """
    from overpaint.operators.diffusion.sampling import ddim_inversion

    predictor = batch.predictor(
        {"text": batch.prompts(batch.source_prompts())}, ClassifierFree(guidance_scale=1.0)
    )
    schedule = batch.schedule._replace(steps=tuple(steps))
    return ddim_inversion(latents_bchw, schedule, predictor, lambda back, last: back(last))[0]
