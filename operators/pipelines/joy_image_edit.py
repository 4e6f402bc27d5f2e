"""JoyAI-Image-Edit: one picture, in one of the sizes that the model was trained on.

The pipeline draws the source's latents by PyTorch's own generator, and decodes them beside those of
the edit.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from overpaint.operators.diffusion.pipeline_call import CallSettings, PipelineCall, source_image
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.framing.frame import Shapes, Size
from overpaint.operators.models.tokenizing import TextLength
from overpaint.pipeline.cost import Cost

if TYPE_CHECKING:
    from overpaint.operators.diffusion.pipeline_model import PipelineModel

_SIDES = (
    *((2048, 512), (1984, 512), (1920, 512), (1856, 512), (1792, 576), (1728, 576)),
    *((1664, 576), (1600, 640), (1536, 640), (1472, 704), (1408, 704), (1344, 768)),
    *((1280, 768), (1216, 832), (1152, 896), (1088, 960)),
)
_WIDE, _TALL = (tuple(Size(*pair[::step]) for pair in _SIDES) for step in (1, -1))
JOY_SHAPES = Shapes(1024, (*_WIDE, Size(1024, 1024), *_TALL))
"""Shapes of diffusers' JoyImageEditImageProcessor, which crops pictures of other proportions."""


class JoyImageEdit(PipelineCall):
    """JoyAI-Image-Edit, with true classifier-free guidance."""

    classes = ("JoyImageEditPipeline",)
    shapes = JOY_SHAPES
    num_inference_steps = 40
    takes_lora = False
    caches = ()
    decoded: ClassVar[int] = 2
    """Pictures that are decoded for one edit."""

    def arguments(self, request: EditRequest, settings: CallSettings) -> Mapping[str, Any]:
        """Hands over the source."""
        return {
            "image": source_image(request),
            "guidance_scale": settings.guidance_scale,
            "negative_prompt": settings.negative_prompt.strip(),
        }

    def cost(self, settings: CallSettings, num_references: int) -> Cost:
        """Counts one branch, or two, each of which shows the pictures to the text encoder."""
        branches, pictures = 1 + (settings.guidance_scale > 1), 1 + num_references
        return Cost(
            forward=branches * settings.num_inference_steps,
            vae_encode=pictures,
            vae_decode=self.decoded,
            text=branches,
            vision=branches * pictures,
        )

    def text_length(self, text: str, model: "PipelineModel") -> TextLength | None:
        """Returns None: the text encoder sees all of a prompt."""
        del text, model
