"""FLUX.1 Kontext (arXiv 2506.15742): a transformer that sees the source and follows an instruction.

It runs through diffusers' FluxKontextPipeline, which takes the size of a whole batch from its first
image; so the batch is bucketed by shape and the size is passed to it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.pipeline_method import PipelineMethod
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.framing.frame import Shapes, Size
from overpaint.pipeline import columns as c
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.pipeline_model import PipelineModel
    from torch import Tensor

_SIDES = (
    *((1568, 672), (1504, 688), (1456, 720), (1392, 752)),
    *((1328, 800), (1248, 832), (1184, 880), (1104, 944)),
)
_WIDE, _TALL = (tuple(Size(*pair[::step]) for pair in _SIDES) for step in (1, -1))


class Kontext(PipelineMethod):
    """FLUX.1 Kontext, which sees the source and follows an instruction."""

    papers = ("2506.15742",)
    family = "F11"
    edit_types = ("add", "remove", "replace", "background", "color", "texture", "style", "pose")
    checkpoints = ("FluxKontextPipeline",)
    prompt = c.INSTRUCTION
    # Kontext was trained on these; they are diffusers' PREFERRED_KONTEXT_RESOLUTIONS.
    shapes = Shapes(1024, (*_WIDE, Size(1024, 1024), *_TALL))

    num_inference_steps: int = Field(default=28, ge=1, le=1000)
    """Denoising steps from noise to picture."""
    guidance_scale: float = Field(default=2.5, ge=0, le=100)
    """Scale of the guidance that is distilled into the model; it costs no evaluations."""

    def call(self, requests: Sequence[EditRequest], model: "PipelineModel") -> "Tensor":
        """Denoises from noise, with the source's latents beside it."""
        import torch
        from overpaint.operators.diffusion import latents

        height_px, width_px = requests[0].picture.shape[:2]
        embeds = [model.embed(request.prompt) for request in requests]
        pictures = latents.to_tensor([request.picture for request in requests], model.device)
        return model.pipeline(
            image=pictures.add(1.0).div(2.0),
            prompt_embeds=torch.cat([tokens for tokens, _ in embeds]),
            pooled_prompt_embeds=torch.cat([pooled for _, pooled in embeds]),
            height=height_px,
            width=width_px,
            max_area=height_px * width_px,
            _auto_resize=False,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            generator=latents.make_generators([request.seed for request in requests]),
            output_type="pt",
        ).images
