"""FLUX.1 Kontext in a mask: outside of it the latents are the source's at every step."""

from collections.abc import Mapping
from typing import Any

from overpaint.operators.diffusion.pipeline_call import (
    CallSettings,
    PipelineCall,
    mask_image,
    reference_images,
    source_image,
)
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.diffusion.speed import FIXED_SCHEDULES
from overpaint.operators.pipelines.flux_kontext import KONTEXT_SHAPES
from overpaint.pipeline.cost import Cost


class FluxKontextInpaint(PipelineCall):
    """FLUX.1 Kontext that fills the mask, from words or one reference."""

    classes = ("FluxKontextInpaintPipeline",)
    same_parts = ("FluxKontextPipeline",)
    shapes = KONTEXT_SHAPES
    num_inference_steps = 28
    guidance_scale = 2.5
    caches = (*FIXED_SCHEDULES, "first_block")
    max_references = 1
    uses_mask = True

    def arguments(self, request: EditRequest, settings: CallSettings) -> Mapping[str, Any]:
        """Hands over the source, the mask and the first reference."""
        height_px, width_px = request.picture.shape[:2]
        references = reference_images(request, 1)
        return {
            "image": source_image(request),
            "mask_image": mask_image(request),
            "image_reference": references[0] if references else None,
            "strength": settings.strength,
            "guidance_scale": settings.guidance_scale,
            "max_area": height_px * width_px,
            "_auto_resize": False,
        }

    def cost(self, settings: CallSettings, num_references: int) -> Cost:
        """Counts the walked steps, and the source with and without what the mask hides."""
        pictures = 2 + min(1, num_references)
        return Cost(forward=settings.walked, vae_encode=pictures, vae_decode=1, text=1)
