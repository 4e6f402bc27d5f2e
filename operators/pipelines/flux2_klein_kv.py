"""FLUX.2 klein 9B-KV: keys and values of the pictures are computed in the first step alone."""

from collections.abc import Mapping
from typing import Any

from overpaint.operators.diffusion.pipeline_call import CallSettings
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.pipelines.flux2_klein import Flux2Klein, flux2_pictures
from overpaint.pipeline.cost import Cost


class Flux2KleinKV(Flux2Klein):
    """FLUX.2 klein with a cache of the pictures' keys and values; distilled, without guidance."""

    classes = ("Flux2KleinKVPipeline",)
    num_inference_steps = 4
    caches = ("mag",)

    def arguments(self, request: EditRequest, settings: CallSettings) -> Mapping[str, Any]:
        """Hands over the source, then the references."""
        del settings
        return {"image": flux2_pictures(request)}

    def cost(self, settings: CallSettings, num_references: int) -> Cost:
        """Counts one branch."""
        pictures = 1 + num_references
        steps = settings.num_inference_steps
        return Cost(forward=steps, vae_encode=pictures, vae_decode=1, text=1)
