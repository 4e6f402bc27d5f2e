"""The diffusers pipelines around papercut's modules: text_to_image and instruction."""

from pathlib import Path
from typing import Any, TypeVar

from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from overpaint.jobs.training.saving import clean_configs, fp16_copy

P = TypeVar("P", bound=DiffusionPipeline)


def build_pipeline(
    kind: type[P], *, vae: Any, text_encoder: Any, tokenizer: Any, unet: Any, scheduler: Any
) -> P:
    """A Stable Diffusion pipeline without a safety checker, which papercut has no use for."""
    parts: dict[str, Any] = {
        "vae": vae,
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        "unet": unet,
        "scheduler": scheduler,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    pipeline = kind(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_pipeline(pipeline: Any, folder: Path) -> None:
    """Write a pipeline of `build_pipeline`, its weights as fp16 safetensors."""
    build_pipeline(
        type(pipeline),
        vae=fp16_copy(pipeline.vae),
        text_encoder=fp16_copy(pipeline.text_encoder),
        tokenizer=pipeline.tokenizer,
        unet=fp16_copy(pipeline.unet),
        scheduler=pipeline.scheduler,
    ).save_pretrained(folder)
    clean_configs(folder)
