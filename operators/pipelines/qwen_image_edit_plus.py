"""Qwen-Image-Edit-2509 and -2511, FireRed-Edit: several pictures, which the text encoder sees too.

The pipeline refuses more than one prompt a call. Each picture is encoded at about 1024 x 1024
pixels and shown to the text encoder at about 384 x 384.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from overpaint.operators.diffusion.pipeline_call import (
    CallSettings,
    PipelineCall,
    reference_images,
    source_image,
)
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.diffusion.speed import FIXED_SCHEDULES
from overpaint.operators.models.tokenizing import TextLength
from overpaint.pipeline.cost import Cost

if TYPE_CHECKING:
    from overpaint.operators.diffusion.pipeline_model import PipelineModel


class QwenImageEditPlus(PipelineCall):
    """Qwen-Image-Edit of several pictures, with true classifier-free guidance."""

    classes = ("QwenImageEditPlusPipeline",)
    num_inference_steps = 40
    max_references = None
    caches = (*FIXED_SCHEDULES, "first_block")

    def arguments(self, request: EditRequest, settings: CallSettings) -> Mapping[str, Any]:
        """Hands over the source, then the references: "Picture 1", "Picture 2" of the prompt."""
        pictures = [source_image(request), *reference_images(request, most_aspect=50.0)]
        return {"image": pictures, **true_guidance(settings)}

    def cost(self, settings: CallSettings, num_references: int) -> Cost:
        """Counts one branch, or two, each of which shows the pictures to the text encoder."""
        branches, pictures = 1 + settings.is_guided, 1 + num_references
        return Cost(
            forward=branches * settings.num_inference_steps,
            vae_encode=pictures,
            vae_decode=1,
            text=branches,
            vision=branches * pictures,
        )

    def text_length(self, text: str, model: "PipelineModel") -> TextLength | None:
        """Returns None: the text encoder sees all of a prompt."""
        del text, model


def true_guidance(settings: CallSettings) -> dict[str, Any]:
    """Returns the arguments of Qwen's guidance; a negative prompt turns it on."""
    negative = settings.negative_prompt if settings.is_guided else None
    return {"true_cfg_scale": settings.guidance_scale, "negative_prompt": negative}
