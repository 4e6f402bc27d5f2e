"""FLUX.1 Fill: a transformer that sees the mask, and the source outside of it."""

from collections.abc import Mapping
from typing import Any

from overpaint.operators.diffusion.pipeline_call import (
    CallSettings,
    PipelineCall,
    mask_image,
    source_image,
)
from overpaint.operators.diffusion.request import EditRequest
from overpaint.pipeline.cost import Cost


class FluxFill(PipelineCall):
    """FLUX.1 Fill, which fills the mask from words."""

    classes = ("FluxFillPipeline",)
    guidance_scale = 30.0
    uses_mask = True
    num_pictures = 1
    caches = ("taylorseer", "mag", "first_block")

    def arguments(self, request: EditRequest, settings: CallSettings) -> Mapping[str, Any]:
        """Hands over the source and the mask."""
        return {
            "image": source_image(request),
            "mask_image": mask_image(request),
            "strength": settings.strength,
            "guidance_scale": settings.guidance_scale,
        }

    def cost(self, settings: CallSettings, num_references: int) -> Cost:
        """Counts the walked steps, and the source with and without what the mask hides."""
        del num_references
        return Cost(forward=settings.walked, vae_encode=2, vae_decode=1, text=1)
