"""FLUX.1 Kontext (arXiv 2506.15742): the source's latents beside those of the edit.

The pipeline takes a batch of pictures, one for each prompt, and sizes all of them by the first; so
rows of one size share a call.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from overpaint.operators.diffusion.pipeline_call import CallSettings, PipelineCall
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.diffusion.speed import FIXED_SCHEDULES
from overpaint.operators.framing.frame import Shapes, Size
from overpaint.pipeline.cost import Cost

if TYPE_CHECKING:
    from overpaint.operators.diffusion.pipeline_model import PipelineModel
    from torch import Tensor

_SIDES = (
    *((1568, 672), (1504, 688), (1456, 720), (1392, 752)),
    *((1328, 800), (1248, 832), (1184, 880), (1104, 944)),
)
_WIDE, _TALL = (tuple(Size(*pair[::step]) for pair in _SIDES) for step in (1, -1))
KONTEXT_SHAPES = Shapes(1024, (*_WIDE, Size(1024, 1024), *_TALL))
"""Shapes that Kontext was trained on: diffusers' PREFERRED_KONTEXT_RESOLUTIONS."""


class FluxKontext(PipelineCall):
    """FLUX.1 Kontext, with guidance that is distilled into the model."""

    classes = ("FluxKontextPipeline",)
    shapes = KONTEXT_SHAPES
    num_inference_steps = 28
    guidance_scale = 2.5
    caches = (*FIXED_SCHEDULES, "first_block")
    shares_calls = True

    def arguments(self, request: EditRequest, settings: CallSettings) -> Mapping[str, Any]:
        """Returns the size of the call, of which rows share one."""
        height_px, width_px = request.picture.shape[:2]
        return {
            "height": height_px,
            "width": width_px,
            "max_area": height_px * width_px,
            "_auto_resize": False,
            "num_inference_steps": settings.num_inference_steps,
            "guidance_scale": settings.guidance_scale,
        }

    def cost(self, settings: CallSettings, num_references: int) -> Cost:
        """Counts one branch."""
        del num_references
        return Cost(forward=settings.num_inference_steps, vae_encode=1, vae_decode=1, text=1)

    def call(
        self, requests: Sequence[EditRequest], settings: CallSettings, model: "PipelineModel"
    ) -> "Tensor":
        """Denoises a batch of rows from noise, with the sources' latents beside it."""
        import torch
        from overpaint.operators.diffusion import latents

        embeds = [embed_alone(request.prompt, model) for request in requests]
        pictures = latents.to_tensor([request.picture for request in requests], model.device)
        return model.pipeline(
            image=pictures.add(1.0).div(2.0),
            prompt_embeds=torch.cat([tokens for tokens, _ in embeds]),
            pooled_prompt_embeds=torch.cat([pooled for _, pooled in embeds]),
            generator=latents.make_generators([request.seed for request in requests]),
            output_type="pt",
            **self.arguments(requests[0], settings),
        ).images


def embed_alone(prompt: str, model: "PipelineModel") -> tuple["Tensor", "Tensor"]:
    """Embeds a prompt of FLUX.1 alone; returns token embeddings and the pooled embedding."""
    import torch

    with torch.no_grad():
        return model.pipeline.encode_prompt(prompt=[prompt], prompt_2=None)[:2]
