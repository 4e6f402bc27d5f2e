"""FLUX.2 klein in a mask: outside of it the latents are the source's at every step."""

from collections.abc import Mapping
from typing import Any

from overpaint.operators.diffusion.pipeline_call import CallSettings, mask_image, source_image
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.pipelines.flux2_klein import Flux2Klein, flux2_references
from overpaint.pipeline.cost import Cost


class Flux2KleinInpaint(Flux2Klein):
    """FLUX.2 klein that fills the mask, from words and one reference."""

    classes = ("Flux2KleinInpaintPipeline",)
    same_parts = ("Flux2KleinPipeline",)
    max_references = 1
    uses_mask = True

    def arguments(self, request: EditRequest, settings: CallSettings) -> Mapping[str, Any]:
        """Hands over the source, the mask and the first reference."""
        references = flux2_references(request, 1)
        return {
            "image": source_image(request),
            "mask_image": mask_image(request),
            "image_reference": references[0] if references else None,
            "strength": settings.strength,
            "guidance_scale": settings.guidance_scale,
        }

    def cost(self, settings: CallSettings, num_references: int) -> Cost:
        """Counts the walked steps of one branch, or two, and the pictures."""
        branches = 1 + settings.is_guided
        pictures = 1 + min(1, num_references)
        return Cost(forward=branches * settings.walked, vae_encode=pictures, vae_decode=1, text=1)
