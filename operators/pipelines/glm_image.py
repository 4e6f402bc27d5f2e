"""GLM-Image: tokens that a language model draws first, then a transformer from noise.

The pipeline seeds PyTorch's own generator by the row's for those tokens, and of a batch by the
first row's: each row is a call of its own.
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
from overpaint.operators.models.tokenizing import TextLength
from overpaint.pipeline.cost import Cost

if TYPE_CHECKING:
    from overpaint.operators.diffusion.pipeline_model import PipelineModel


class GlmImage(PipelineCall):
    """GLM-Image, which sees the source and any number of references."""

    classes = ("GlmImagePipeline",)
    multiple_px = 32
    guidance_scale = 1.5
    max_references = None
    takes_lora = False
    caches = ()

    def arguments(self, request: EditRequest, settings: CallSettings) -> Mapping[str, Any]:
        """Hands over the source, then the references."""
        pictures = [source_image(request), *reference_images(request, least_px=32)]
        return {"image": pictures, "guidance_scale": settings.guidance_scale}

    def cost(self, settings: CallSettings, num_references: int) -> Cost:
        """Counts one branch, or two, and the call that keeps each picture's keys and values."""
        branches, pictures = 1 + settings.is_guided, 1 + num_references
        return Cost(
            forward=branches * settings.num_inference_steps + pictures,
            vae_encode=pictures,
            vae_decode=1,
            text=1,
        )

    def text_length(self, text: str, model: "PipelineModel") -> TextLength | None:
        """Returns None: both text encoders have limits of their own."""
        del text, model
