"""Diffusers pipelines of text_to_image and instruction: construction, export and cached latents."""

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from numpy.typing import NDArray
from overpaint.jobs.training import pictures
from overpaint.jobs.training.cache import Cache, Example
from overpaint.jobs.training.saving import clean_configs, fp16_copy
from overpaint.jobs.training.vae import encode

P = TypeVar("P", bound=DiffusionPipeline)

_BLOCK_EXAMPLES = 64


def build_pipeline(
    kind: type[P], *, vae: Any, text_encoder: Any, tokenizer: Any, unet: Any, scheduler: Any
) -> P:
    """Builds a Stable Diffusion pipeline without a safety checker."""
    components: dict[str, Any] = {
        "vae": vae,
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        "unet": unet,
        "scheduler": scheduler,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    pipeline = kind(**components)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_pipeline(pipeline: Any, folder: Path) -> None:
    """Writes a pipeline of `build_pipeline`, its weights as fp16 safetensors."""
    build_pipeline(
        type(pipeline),
        vae=fp16_copy(pipeline.vae),
        text_encoder=fp16_copy(pipeline.text_encoder),
        tokenizer=pipeline.tokenizer,
        unet=fp16_copy(pipeline.unet),
        scheduler=pipeline.scheduler,
    ).save_pretrained(folder)
    clean_configs(folder)


def latent_examples(
    drawn: Cache, images: Mapping[str, str], vae: Any, device: torch.device
) -> Callable[[int], Example]:
    """Returns a function from an index to the latents (float16, scaled) and texts of an example.

    Args:
        drawn: examples to encode.
        images: name of the images in `drawn`, by the name of their latents.
        vae: autoencoder that encodes them, on `device`.
        device: device of the encoder.
    """

    @lru_cache(maxsize=1)
    @torch.no_grad()
    def encode_block(block: int) -> dict[str, NDArray[np.float16]]:
        indices = slice(block * _BLOCK_EXAMPLES, (block + 1) * _BLOCK_EXAMPLES)
        pixels = {
            latents: pictures.to_tensor(drawn.arrays[name][indices], device)
            for latents, name in images.items()
        }
        return {name: encode(vae, rgb).half().cpu().numpy() for name, rgb in pixels.items()}

    def draw(index: int) -> Example:
        block, offset = divmod(index, _BLOCK_EXAMPLES)
        arrays = {name: latents[offset] for name, latents in encode_block(block).items()}
        return Example(arrays, drawn.texts[index])

    return draw


def encoder_digest(vae: Any) -> str:
    """Returns a short hash of a vae's encoder, on which its latents depend."""
    hasher = hashlib.sha256()
    for module in (vae.encoder, vae.quant_conv):
        for name, weights in sorted(module.state_dict().items()):
            hasher.update(name.encode() + weights.cpu().numpy().tobytes())
    return hasher.hexdigest()[:8]
