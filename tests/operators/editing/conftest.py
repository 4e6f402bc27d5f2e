"""Tiny checkpoints of the real classes with random weights, and rows to edit."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

SIDE_PX = 32
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def tokenizer(max_tokens=16):
    from transformers import CLIPTokenizer

    tokens = [*_LETTERS, *(letter + "</w>" for letter in _LETTERS)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=max_tokens)


def text_encoder(tokens, kind="CLIPTextModel", hidden_size=16):
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=hidden_size,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokens.model_max_length,
        projection_dim=hidden_size,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
    )
    return getattr(transformers, kind)(config)


def vae():
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIDE_PX,
        mid_block_add_attention=False,
        scaling_factor=0.5,
    )


def unet(in_channels=4, cross_attention_dim=16, **options):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIDE_PX // 2,
        in_channels=in_channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=cross_attention_dim,
        attention_head_dim=2,
        norm_num_groups=4,
        **options,
    )


def scheduler():
    """Stable Diffusion 1.5's own: a PNDMScheduler."""
    from diffusers import PNDMScheduler

    return PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        set_alpha_to_one=False,
        skip_prk_steps=True,
        steps_offset=1,
    )


def save_stable_diffusion(folder, kind="StableDiffusionPipeline", in_channels=4, **options):
    import diffusers

    torch.manual_seed(0)
    tokens = tokenizer()
    pipeline = getattr(diffusers, kind)(
        vae=vae(),
        text_encoder=text_encoder(tokens),
        tokenizer=tokens,
        unet=unet(in_channels),
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, **options)
    return str(folder)


@pytest.fixture(scope="session")
def stable_diffusion(tmp_path_factory):
    return save_stable_diffusion(tmp_path_factory.mktemp("sd"))


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def picture(number, height=SIDE_PX, width=SIDE_PX, channels=3):
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def make_row(number, height=SIDE_PX, width=SIDE_PX, **columns):
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 255
    return {
        "source_image": png(picture(number, height, width)),
        "source_prompt": f"source {'abc'[number % 3]}",
        "caption": None,
        "target_prompt": f"target {'xyz'[number % 3]}",
        "instruction": f"make it {'xyz'[number % 3]}",
        "mask_image": png(mask),
        "seed": 100 + number,
        "image_format": "png",
        **columns,
    }


@pytest.fixture
def row():
    return make_row
