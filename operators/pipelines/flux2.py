"""FLUX.2 dev: guidance is distilled into the model and costs no evaluations."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from overpaint.operators.diffusion.pipeline_call import (
    CallSettings,
    PipelineCall,
)
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.models.tokenizing import TextLength
from overpaint.operators.pipelines.flux2_klein import flux2_pictures
from overpaint.pipeline.cost import Cost

if TYPE_CHECKING:
    from overpaint.operators.diffusion.pipeline_model import PipelineModel


class Flux2(PipelineCall):
    """FLUX.2 dev, which sees the source and any number of references."""

    classes = ("Flux2Pipeline",)
    max_references = None

    def arguments(self, request: EditRequest, settings: CallSettings) -> Mapping[str, Any]:
        """Hands over the source, then the references."""
        return {"image": flux2_pictures(request), "guidance_scale": settings.guidance_scale}

    def cost(self, settings: CallSettings, num_references: int) -> Cost:
        """Counts one branch, and the pictures."""
        steps = settings.num_inference_steps
        return Cost(forward=steps, vae_encode=1 + num_references, vae_decode=1, text=1)

    def text_length(self, text: str, model: "PipelineModel") -> TextLength | None:
        """Returns None: a processor words the prompt, and its template is long."""
        del text, model
