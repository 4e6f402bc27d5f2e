"""InstructPix2Pix (arXiv 2211.09800): a UNet that sees the source and follows an instruction.

Its 8 input channels are the noisy latents and the latents of the source.
"""

from collections.abc import Mapping

from overpaint.operators.controls.guidance import ImageAndText
from overpaint.operators.diffusion.batch import Batch, BranchInputs, Sampling
from overpaint.operators.diffusion.method import Framed, LatentMethod
from overpaint.operators.diffusion.schedule import ALL_STEPS, Window
from overpaint.pipeline import columns as c
from pydantic import Field


class InstructPix2Pix(LatentMethod, Framed):
    """An editor that sees the source and follows an instruction."""

    papers = ("2211.09800",)
    family = "F11"
    edit_types = ("add", "replace", "background", "color", "texture", "style", "expression")
    checkpoints = (
        "StableDiffusionInstructPix2PixPipeline",
        "StableDiffusionXLInstructPix2PixPipeline",
    )
    papercut = "instruction"
    prompt = c.INSTRUCTION

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of the guidance by the instruction."""
    image_guidance_scale: float = Field(default=1.5, ge=0, le=100)
    """Scale of the guidance by the source: the higher, the closer the edit keeps to it."""
    negative_prompt: str = ""
    """Negative prompt for classifier-free guidance."""

    def branches(self) -> Mapping[str, Window]:
        """Returns instruction and source, the source alone, and neither."""
        return {"text": ALL_STEPS, "image": ALL_STEPS, "negative": ALL_STEPS}

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from noise; the UNet sees the source throughout."""
        # The paper's model was trained on latents that are not scaled.
        image = batch.source_latents / batch.model.scaling_factor
        negative = batch.negative_prompts(self.negative_prompt)
        no_image = image.new_zeros(image.shape)
        return Sampling(
            start_bchw=batch.noise,
            guidance=ImageAndText(
                guidance_scale=self.guidance_scale, image_guidance_scale=self.image_guidance_scale
            ),
            branches={
                "text": BranchInputs(channels_bchw=image),
                "image": BranchInputs(prompts=negative, channels_bchw=image),
                "negative": BranchInputs(prompts=negative, channels_bchw=no_image),
            },
        )
