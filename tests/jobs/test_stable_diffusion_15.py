"""Stable Diffusion 1.5's real configuration, with random weights, by its path.

The weights of the hub take the same path through the same classes.
"""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from overpaint.jobs.cli import main
from PIL import Image

pytestmark = pytest.mark.slow

RECIPE = """
[row]
source_prompt = "a rocket"
target_prompt = "a red rocket"
[[stage]]
operator = "invert"
checkpoint = "{folder}"
num_inference_steps = 2
resolution = 256
batch_size = 1
num_threads = 1
group = "model"
[[stage]]
operator = "edit"
checkpoint = "{folder}"
batch_size = 1
num_threads = 1
group = "model"
[group.model]
num_cpus = 1
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The pipeline as the hub lays it out: fp16 safetensors of 0.98 billion random weights."""
    import torch
    from diffusers import (
        AutoencoderKL,
        PNDMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    blocks = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    with torch.no_grad():
        unet = UNet2DConditionModel(
            sample_size=64,
            cross_attention_dim=768,
            attention_head_dim=8,
            block_out_channels=(320, 640, 1280, 1280),
            down_block_types=blocks,
            up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        ).half()
        vae = AutoencoderKL(
            sample_size=512,
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        ).half()
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=49408,
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
                max_position_embeddings=77,
                projection_dim=768,
                bos_token_id=0,
                eos_token_id=2,
            )
        ).half()
    folder = tmp_path_factory.mktemp("sd15") / "stable-diffusion-v1-5"
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=_tokenizer(),
        unet=unet,
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
    return folder


def _tokenizer():
    """A tokenizer of the real class and length; the real vocabulary is not needed here."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)


def test_real_configuration_runs_a_photo_by_its_path(checkpoint, tmp_path):
    from skimage import data

    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(data.rocket()).save(photos / "rocket.jpg")
    recipe = tmp_path / "sd15.toml"
    recipe.write_text(RECIPE.format(folder=checkpoint))
    output = tmp_path / "run"
    assert (
        main(["run", str(recipe), "--input", str(photos), "--output", str(output), "--no-ray"]) == 0
    )
    (row,) = pq.read_table(output / "manifest").to_pylist()
    assert (row["status"], row["error_message"]) == ("accepted", None)
    assert row["checkpoint"] == str(checkpoint)
    edited = Image.open(io.BytesIO((output / row["edited_uri"]).read_bytes()))
    assert edited.size == (row["width_px"], row["height_px"]) == (640, 427)
    assert np.asarray(edited).std() > 0
