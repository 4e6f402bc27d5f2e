"""Qwen-Image-Edit in a mask: outside of it the latents are the source's at every step."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from overpaint.operators.diffusion.pipeline_call import CallSettings, mask_image, source_image
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.pipelines.qwen_image_edit_plus import QwenImageEditPlus, true_guidance
from overpaint.pipeline.cost import Cost


class QwenImageEditInpaint(QwenImageEditPlus):
    """Qwen-Image-Edit that changes the mask alone."""

    classes = ("QwenImageEditInpaintPipeline",)
    same_parts = ("QwenImageEditPipeline",)
    num_inference_steps = 50
    max_references = 0
    uses_mask = True

    def arguments(self, request: EditRequest, settings: CallSettings) -> Mapping[str, Any]:
        """Hands over the source and the mask."""
        pictures = {"image": source_image(request), "mask_image": mask_image(request)}
        return {**pictures, "strength": settings.strength, **true_guidance(settings)}

    def cost(self, settings: CallSettings, num_references: int) -> Cost:
        """Counts the walked steps, and the source with and without what the mask hides."""
        walked = replace(settings, num_inference_steps=settings.walked)
        return super().cost(walked, num_references) + Cost(vae_encode=1)
