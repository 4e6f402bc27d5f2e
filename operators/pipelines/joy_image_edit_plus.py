"""JoyAI-Image-Edit-Plus: several pictures for each prompt.

The pipeline takes a list of pictures for each row and pads all to the longest; each row is a call
of its own, so that its neighbours' lengths have no part in it.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from overpaint.operators.diffusion.pipeline_call import (
    CallSettings,
    of_size,
    reference_images,
    source_image,
    usual_arguments,
)
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.pipelines.joy_image_edit import JoyImageEdit

if TYPE_CHECKING:
    from overpaint.operators.diffusion.pipeline_model import PipelineModel
    from torch import Tensor


class JoyImageEditPlus(JoyImageEdit):
    """JoyAI-Image-Edit of several pictures, with true classifier-free guidance."""

    classes = ("JoyImageEditPlusPipeline",)
    num_inference_steps = 30
    max_references = None
    decoded = 1

    def arguments(self, request: EditRequest, settings: CallSettings) -> Mapping[str, Any]:
        """Hands over the source, then the references."""
        return {
            "images": [[source_image(request), *reference_images(request)]],
            "guidance_scale": settings.guidance_scale,
            "negative_prompt": [settings.negative_prompt],
        }

    def call(
        self, requests: Sequence[EditRequest], settings: CallSettings, model: "PipelineModel"
    ) -> "Tensor":
        """Calls the pipeline for one row, whose generator is in a list as its pictures are."""
        (request,) = requests
        usual = usual_arguments(request, settings)
        usual |= {"prompt": [request.prompt], "generator": [usual["generator"]]}
        given = {**usual, **self.arguments(request, settings)}
        return of_size(model.pipeline(**given).images, request)
