"""A run of an instruction editor, which sees the source: InstructPix2Pix (arXiv 2211.09800)."""

from collections.abc import Mapping, Sequence

from overpaint.operators.controls.guidance import ImageAndText
from overpaint.operators.diffusion.batch import Batch, BranchInputs, Sampling
from overpaint.operators.diffusion.schedule import ALL_STEPS, Window

INSTRUCTED: Mapping[str, Window] = {"text": ALL_STEPS, "image": ALL_STEPS, "negative": ALL_STEPS}
"""Branches of a run: instruction and source, the source alone, and neither."""


def instructed(
    batch: Batch,
    guidance: ImageAndText,
    negative_prompt: str = "",
    task_labels: int | Sequence[int] = 0,
) -> Sampling:
    """Returns a run that starts from noise; the UNet sees the source throughout.

    Args:
        batch: rows whose prompts are instructions.
        guidance: guidance by image and text.
        negative_prompt: stands for no instruction.
        task_labels: task of the rows, for a UNet that knows task labels; 0 is an unknown one.
    """
    # The paper's model was trained on latents that are not scaled.
    image = batch.source_latents / batch.model.scaling_factor
    negative = batch.negative_prompts(negative_prompt)
    no_image = image.new_zeros(image.shape)
    return Sampling(
        start_bchw=batch.noise,
        guidance=guidance,
        branches={
            "text": BranchInputs(channels_bchw=image, task_label=task_labels),
            "image": BranchInputs(prompts=negative, channels_bchw=image),
            "negative": BranchInputs(prompts=negative, channels_bchw=no_image),
        },
    )
