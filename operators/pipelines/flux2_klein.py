"""FLUX.2 klein: a transformer that sees the source and any number of references.

The pipeline takes a list of pictures for one set that all prompts of a call share, so that each row
is a call of its own. A prompt is padded to a fixed length.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from overpaint.operators.diffusion.pipeline_call import (
    CallSettings,
    PipelineCall,
    enlarged,
    reference_images,
    source_image,
)
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.models.tokenizing import TextLength, text_length
from overpaint.pipeline.cost import Cost

if TYPE_CHECKING:
    from overpaint.operators.diffusion.pipeline_model import PipelineModel

LEAST_PX, MOST_ASPECT = 64, 8.0
"""Shortest side and longest shape of a picture that diffusers' Flux2ImageProcessor takes."""


class Flux2Klein(PipelineCall):
    """FLUX.2 klein, distilled to four steps or with true classifier-free guidance."""

    classes = ("Flux2KleinPipeline",)
    max_references = None

    def arguments(self, request: EditRequest, settings: CallSettings) -> Mapping[str, Any]:
        """Hands over the source, then the references; the negative prompt is the empty one."""
        return {"image": flux2_pictures(request), "guidance_scale": settings.guidance_scale}

    def cost(self, settings: CallSettings, num_references: int) -> Cost:
        """Counts the steps of one branch, or two, and the pictures."""
        branches = 1 + settings.is_guided
        return Cost(
            forward=branches * settings.num_inference_steps,
            vae_encode=1 + num_references,
            vae_decode=1,
            text=1,
        )

    def text_length(self, text: str, model: "PipelineModel") -> TextLength | None:
        """Returns the length of a text in the chat template that the text encoder reads."""
        pipeline = model.pipeline
        messages = [{"role": "user", "content": text}]
        whole = pipeline.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return text_length(pipeline.tokenizer, whole, pipeline.tokenizer_max_length)


def flux2_pictures(request: EditRequest) -> list[Any]:
    """Returns the source and the references as FLUX.2's pipelines take them."""
    return [enlarged(source_image(request), LEAST_PX), *flux2_references(request)]


def flux2_references(request: EditRequest, most: int | None = None) -> list[Any]:
    """Returns references as FLUX.2's pipelines take them."""
    return reference_images(request, most, least_px=LEAST_PX, most_aspect=MOST_ASPECT)
