"""Qwen-Image-Edit, of one picture.

The pipeline takes lists, but sizes all pictures by the first, and pads prompts to the longest.
"""

from collections.abc import Mapping
from typing import Any

from overpaint.operators.diffusion.pipeline_call import CallSettings, source_image
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.pipelines.qwen_image_edit_plus import QwenImageEditPlus, true_guidance


class QwenImageEdit(QwenImageEditPlus):
    """Qwen-Image-Edit of one picture, with true classifier-free guidance."""

    classes = ("QwenImageEditPipeline",)
    num_inference_steps = 50
    max_references = 0

    def arguments(self, request: EditRequest, settings: CallSettings) -> Mapping[str, Any]:
        """Hands over the source."""
        return {"image": source_image(request), **true_guidance(settings)}
