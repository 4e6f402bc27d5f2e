"""A checkpoint of Stable Diffusion 1.5's shape with random weights, to time and to try."""

from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from overpaint.operators.models.pretrained import device
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_TOKENS = (
    *_LETTERS,
    *(f"{letter}</w>" for letter in _LETTERS),
    "<|startoftext|>",
    "<|endoftext|>",
)


def save_random_checkpoint(folder: Path) -> str:
    """Saves a float16 pipeline as the hub lays it out; its tokenizer knows letters alone.

    Returns:
        The folder.
    """
    torch.manual_seed(0)
    with torch.no_grad(), device():
        parts = {"unet": _unet(), "vae": _vae(), "text_encoder": _text_encoder()}
    vocabulary = {token: place for place, token in enumerate(_TOKENS)}
    kind: Any = StableDiffusionPipeline
    kind(
        **{name: part.to(torch.float16) for name, part in parts.items()},
        tokenizer=CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77),
        scheduler=PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            skip_prk_steps=True,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return str(folder)


def _unet() -> Any:
    return UNet2DConditionModel(
        sample_size=64,
        cross_attention_dim=768,
        attention_head_dim=8,
        block_out_channels=(320, 640, 1280, 1280),
        down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    )


def _vae() -> Any:
    kind: Any = AutoencoderKL
    return kind(
        sample_size=512,
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
    )


def _text_encoder() -> Any:
    end = len(_TOKENS) - 1
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(_TOKENS),
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            projection_dim=768,
            bos_token_id=end - 1,
            eos_token_id=end,
            pad_token_id=end,
        )
    )
