"""Operations of a network's evaluation: counted on its shape, and equal to published counts."""

import json

import pytest
from overpaint.operators.diffusion.flops import flops_of
from overpaint.operators.models.weights import Checkpoint

SD15_UNET = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SD15_VAE = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
}


@pytest.fixture
def sd15(tmp_path):
    """Configurations of Stable Diffusion 1.5's shape, and no weights."""
    parts = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
    index = {name: ["diffusers", kind] for name, kind in parts.items()}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    for name, config in (("unet", SD15_UNET), ("vae", SD15_VAE)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    return Checkpoint(name=str(tmp_path))


def test_operations_of_stable_diffusion_are_those_that_are_published(sd15):
    flops = flops_of(sd15)
    assert flops["forward"] / 1e12 == pytest.approx(0.803, rel=0.01)
    assert flops["vae_encode"] / 1e12 == pytest.approx(1.117, rel=0.02)
    assert flops["vae_decode"] / 1e12 == pytest.approx(2.515, rel=0.02)
    assert flops["backward"] == 2 * flops["forward"]
    assert "text" not in flops


def test_operations_of_papercut_have_every_kind_that_its_stages_spend():
    pipeline = flops_of(Checkpoint(name="papercut"))
    assert {"forward", "vae_encode", "vae_decode", "text"} <= pipeline.keys()
    assert flops_of(Checkpoint(name="papercut", part="clip"))["clip"] > 0


def test_checkpoint_that_is_not_here_has_no_count():
    assert flops_of(Checkpoint(name="nobody/has-this", revision="0" * 40)) == {}
