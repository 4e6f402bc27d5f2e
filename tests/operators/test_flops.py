"""Operations of a network's evaluation: counted on its shape, and equal to published counts."""

import json

import pytest
from overpaint.operators.diffusion.flops import flops_of
from overpaint.operators.diffusion.meta_networks import Sight
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
KLEIN = {
    "_class_name": "Flux2Transformer2DModel",
    "in_channels": 128,
    "num_layers": 1,
    "num_single_layers": 2,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 7680,
    "timestep_guidance_channels": 256,
    "mlp_ratio": 3.0,
    "axes_dims_rope": [32, 32, 32, 32],
    "guidance_embeds": False,
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


@pytest.mark.slow
def test_operations_of_a_transformer_are_those_of_a_closed_formula(tmp_path):
    index = {"_class_name": "Flux2KleinPipeline"}
    index["transformer"] = ["diffusers", "Flux2Transformer2DModel"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text(json.dumps(KLEIN))
    counted = flops_of(Checkpoint(name=str(tmp_path)), Sight(num_pictures=2))["forward"]
    width, hidden = 24 * 128, 3 * 24 * 128
    tokens = 2 * (1024 // 16) ** 2 + 512  # two pictures of a megapixel, and the prompt
    attention = 4 * tokens**2 * width
    double = 2 * tokens * (4 * width**2 + 3 * width * hidden) + attention
    single = 2 * tokens * width * (3 * width + 2 * hidden + width + hidden) + attention
    # What embeds time, pictures and prompt, and modulates, is beside the blocks.
    assert counted == pytest.approx(double + 2 * single, rel=0.01)
    assert counted > double + 2 * single


def test_checkpoint_that_is_not_here_has_no_count():
    assert flops_of(Checkpoint(name="nobody/has-this", revision="0" * 40)) == {}
