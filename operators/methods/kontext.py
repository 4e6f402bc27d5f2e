"""FLUX.1 Kontext (arXiv 2506.15742): a transformer that sees the source and follows an instruction.

It runs through diffusers' FluxKontextPipeline, which takes the size of a whole batch from its first
image; so the batch is bucketed by shape and the size is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.method import Job, Method
from overpaint.operators.framing.frame import Fit, Shapes, Size
from overpaint.operators.models.checkpoint import Checkpoint
from overpaint.pipeline.columns import INSTRUCTION

if TYPE_CHECKING:
    import torch

_WIDE = (
    Size(1568, 672),
    Size(1504, 688),
    Size(1456, 720),
    Size(1392, 752),
    Size(1328, 800),
    Size(1248, 832),
    Size(1184, 880),
    Size(1104, 944),
)
# Kontext was trained on these; they are diffusers' PREFERRED_KONTEXT_RESOLUTIONS.
SHAPES = Shapes(
    1024, (*_WIDE, Size(1024, 1024), *(Size(size.height_px, size.width_px) for size in _WIDE))
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    """The fields of `edit` that this method uses."""

    num_inference_steps: int = 28
    guidance_scale: float = 2.5
    fit: Fit = "whole"
    crop_margin: float = 0.25
    resolution: int = 0


@dataclass(eq=False, kw_only=True, slots=True)
class KontextModel:
    """A loaded FluxKontextPipeline.

    Attributes:
        identity: the exact weights.
        pipeline: diffusers' pipeline.
        device: where it computes.
        num_evaluations: rows that the transformer has seen.
        relieved: what was done for lack of memory that can change the last digit.
        is_offloaded: whether each part is on the device only while it computes.
    """

    identity: str
    pipeline: Any
    device: "torch.device"
    num_evaluations: int = 0
    relieved: tuple[str, ...] = ()
    is_offloaded: bool = False

    @property
    def resolution_px(self) -> int:
        """The side that it was trained on."""
        return SHAPES.base

    @property
    def multiple_px(self) -> int:
        """A latent pixel is packed with its neighbours, 2 x 2."""
        return 2 * int(self.pipeline.vae_scale_factor)


def evaluations(fields: Fields, num_inference_steps: int) -> int:
    """One for each step: its guidance is distilled."""
    del fields
    return num_inference_steps


@lru_cache(maxsize=2)
def load(checkpoint: Checkpoint) -> KontextModel:
    """The pipeline on its device."""
    from diffusers.pipelines.flux.pipeline_flux_kontext import FluxKontextPipeline
    from overpaint.operators.models import weights as checkpoints
    from overpaint.operators.models.device import device, torch_dtype

    pipeline: Any = FluxKontextPipeline.from_pretrained(
        checkpoint.path,
        dtype=torch_dtype(checkpoint.dtype),
        variant=checkpoint.found_variant(),
        **checkpoints.weight_options(checkpoint.name, checkpoint.revision),
    ).to(device())
    pipeline.set_progress_bar_config(disable=True)
    model = KontextModel(identity=checkpoint.identity(), pipeline=pipeline, device=device())

    def count(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        model.num_evaluations += len(kwargs["hidden_states"])

    pipeline.transformer.register_forward_pre_hook(count, with_kwargs=True)
    return model


def relieve(model: KontextModel, exact: bool) -> str | None:
    """Offloads the pipeline's parts; where bytes may change, slices its VAE."""
    if exact and model.device.type != "cpu" and not model.is_offloaded:
        model.pipeline.enable_model_cpu_offload(device=model.device)
        model.is_offloaded = True
        return "offload"
    if not exact and not model.relieved:
        model.pipeline.vae.enable_slicing()
        model.relieved = ("vae_slicing",)
        return "vae_slicing"
    return None


def edit(jobs: Sequence[Job], model: KontextModel, fields: Fields) -> list[NDArray[np.float32]]:
    """Denoises from noise, with the source's latents beside it."""
    import torch
    from overpaint.operators.diffusion import latents as autoencode

    pipeline = model.pipeline
    height_px, width_px = jobs[0].picture.shape[:2]
    with torch.no_grad():
        embedded = [pipeline.encode_prompt(prompt=[job.prompt], prompt_2=None)[:2] for job in jobs]
    pictures = autoencode.to_tensor([job.picture for job in jobs], model.device)
    result: Any = pipeline(
        image=pictures.add(1.0).div(2.0),
        prompt_embeds=torch.cat([tokens for tokens, _ in embedded]),
        pooled_prompt_embeds=torch.cat([pooled for _, pooled in embedded]),
        height=height_px,
        width=width_px,
        max_area=height_px * width_px,
        _auto_resize=False,
        num_inference_steps=fields.num_inference_steps,
        guidance_scale=fields.guidance_scale,
        generator=autoencode.make_generators([job.seed for job in jobs]),
        output_type="pt",
    )
    return autoencode.to_pictures(result.images * 2.0 - 1.0)


METHOD = Method(
    name="kontext",
    summary="FLUX.1 Kontext, which sees the source and follows an instruction",
    papers=("2506.15742",),
    family="F11",
    part="kontext",
    classes=("FluxKontextPipeline",),
    prompt=INSTRUCTION,
    fields=Fields,
    shapes=SHAPES,
    evaluations=evaluations,
    load=load,
    edit=edit,
    relieve=relieve,
)
