"""LongCat-Image-Edit: one picture, which the text encoder sees too.

The pipeline takes one prompt a call, and no size: it makes one of about 1024 x 1024 pixels of the
source's proportions. The size of the frame is given in its place.
"""

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from overpaint.operators.diffusion.pipeline_call import (
    CallSettings,
    PipelineCall,
    of_size,
    source_image,
    usual_arguments,
)
from overpaint.operators.diffusion.request import EditRequest
from overpaint.pipeline.cost import Cost

if TYPE_CHECKING:
    from overpaint.operators.diffusion.pipeline_model import PipelineModel
    from torch import Tensor


class LongCatImageEdit(PipelineCall):
    """LongCat-Image-Edit, with true classifier-free guidance."""

    classes = ("LongCatImageEditPipeline",)
    guidance_scale = 4.5
    takes_lora = False
    caches = ("taylorseer", "pyramid_attention_broadcast")

    def arguments(self, request: EditRequest, settings: CallSettings) -> Mapping[str, Any]:
        """Hands over the source."""
        return {
            "image": source_image(request),
            "guidance_scale": settings.guidance_scale,
            "negative_prompt": settings.negative_prompt.strip(),
        }

    def cost(self, settings: CallSettings, num_references: int) -> Cost:
        """Counts one branch, or two, each of which shows the source to the text encoder."""
        del num_references
        branches = 1 + (settings.guidance_scale > 1)
        return Cost(
            forward=branches * settings.num_inference_steps,
            vae_encode=1,
            vae_decode=1,
            text=branches,
            vision=branches,
        )

    def call(
        self, requests: Sequence[EditRequest], settings: CallSettings, model: "PipelineModel"
    ) -> "Tensor":
        """Calls the pipeline for one row in the size of its frame."""
        (request,) = requests
        usual = usual_arguments(request, settings)
        size = usual.pop("width"), usual.pop("height")
        with _sized(model.pipeline, size):
            images = model.pipeline(**usual, **self.arguments(request, settings)).images
        return of_size(images, request)


@contextmanager
def _sized(pipeline: Any, size: tuple[int, int]) -> Generator[None]:
    """Replaces the size that a pipeline's module would compute."""
    module: Any = sys.modules[type(pipeline).__module__]
    compute = module.calculate_dimensions
    module.calculate_dimensions = lambda *_: size
    try:
        yield
    finally:
        module.calculate_dimensions = compute
