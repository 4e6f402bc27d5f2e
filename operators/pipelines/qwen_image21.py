"""Qwen-Image-2.1: several pictures, which the text encoder sees too, one set a call."""

from collections.abc import Mapping
from typing import Any

from overpaint.operators.diffusion.pipeline_call import (
    CallSettings,
    reference_images,
    source_image,
)
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.pipelines.qwen_image_edit_plus import QwenImageEditPlus, true_guidance


class QwenImage21(QwenImageEditPlus):
    """Qwen-Image-2.1, which draws from words and edits up to ten pictures."""

    classes = ("QwenImage21Pipeline",)
    num_inference_steps = 40
    guidance_scale = 1.0
    max_references = 9
    caches = ()

    def arguments(self, request: EditRequest, settings: CallSettings) -> Mapping[str, Any]:
        """Hands over the source, then the references."""
        pictures = [source_image(request), *reference_images(request, self.max_references)]
        return {"image": pictures, **true_guidance(settings)}
