"""Other editors of the installed diffusers, by the names that most of their parameters have.

A class is called for one row at a time, with those of the usual parameters that it has. Its costs
are those of one picture and, where it has a `negative_prompt` and a scale above 1, of two branches.
"""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

from overpaint.operators.diffusion.pipeline_call import (
    CallSettings,
    PipelineCall,
    mask_image,
    of_size,
    reference_images,
    source_image,
    usual_arguments,
)
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.diffusion.speed import FIXED_SCHEDULES
from overpaint.pipeline.cost import Cost

if TYPE_CHECKING:
    from overpaint.operators.diffusion.pipeline_model import PipelineModel
    from torch import Tensor

_PICTURES = ("images", "input_images", "image")
_MASKS = ("mask_image", "mask")


class Generic(PipelineCall):
    """Any editor of diffusers that takes a picture and a prompt."""

    classes = ()
    max_references = None
    caches = (*FIXED_SCHEDULES, "first_block")

    def check(self, pipeline: Any) -> None:
        """Checks that the pipeline takes a picture and a prompt.

        Raises:
            ValueError: it does not.
        """
        known = signature(pipeline.__call__).parameters
        if "prompt" not in known or not any(name in known for name in _PICTURES):
            raise ValueError(f"a {type(pipeline).__name__} does not take a picture and a prompt")

    def arguments(self, request: EditRequest, settings: CallSettings) -> Mapping[str, Any]:
        """Returns all that a class may take: `call` leaves out what it does not."""
        pictures = [source_image(request), *reference_images(request)]
        scale = settings.guidance_scale
        return {
            **usual_arguments(request, settings),
            **dict.fromkeys(_PICTURES, pictures if len(pictures) > 1 else pictures[0]),
            **dict.fromkeys(_MASKS, mask_image(request)),
            "negative_prompt": settings.negative_prompt if settings.is_guided else None,
            "true_cfg_scale": scale,
            "guidance_scale": scale,
            "strength": settings.strength,
        }

    def cost(self, settings: CallSettings, num_references: int) -> Cost:
        """Counts one branch, or two."""
        branches = 1 + settings.is_guided
        return Cost(
            forward=branches * settings.num_inference_steps,
            vae_encode=1 + num_references,
            vae_decode=1,
            text=branches,
        )

    def call(
        self, requests: Sequence[EditRequest], settings: CallSettings, model: "PipelineModel"
    ) -> "Tensor":
        """Calls the pipeline with what it takes of `arguments`."""
        (request,) = requests
        known = signature(model.pipeline.__call__).parameters
        given = self.arguments(request, settings)
        images = model.pipeline(**{k: v for k, v in given.items() if k in known}).images
        return of_size(images, request)
