"""Memory of models, estimated without their weights, beside that of the real ones."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from overpaint.operators.diffusion.latent_model import load_latent_model
from overpaint.operators.diffusion.memory_need import memory_need, num_parameters
from overpaint.operators.diffusion.meta_networks import Sight
from overpaint.operators.diffusion.tensor_memory import TensorMemory
from overpaint.operators.models.weights import Checkpoint

PAPERCUT = Checkpoint(name="papercut")
ONE = {"num_rows": 1, "num_branches": 1, "goes_back": False}


def test_memory_counts_what_is_made_until_it_is_let_go():
    given = torch.zeros(2**18, device="meta")
    with TensorMemory() as memory:
        first = given + 1
        second = first * 2
        del first
        third = second.view(2, -1).add_(1)[0] + 1
        turned = given.t()
    # Two at once; half of one is made last, and views of what is there are nothing new.
    assert memory.peak == 2 * 2**20
    assert memory.total == 2 * 2**20 + 2**19
    assert third.shape[0] == turned.shape[0] / 2


def test_attention_holds_its_answer_and_no_matrix():
    heads = torch.zeros(1, 2, 512, 16, device="meta")
    with TensorMemory() as memory:
        torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)
    assert memory.peak == 512 * 2 * 16 * 4


def test_weights_are_those_that_the_loaded_model_has():
    variant = PAPERCUT.weights_variant()
    pipeline = StableDiffusionPipeline.from_pretrained(PAPERCUT.path, variant=variant)
    parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    loaded = sum(value.numel() for part in parts for value in part.state_dict().values())
    assert num_parameters(Path(PAPERCUT.path), variant) == loaded
    need = memory_need(PAPERCUT, Sight(), **ONE)
    assert need is not None
    assert need.weights == 4 * loaded
    half = memory_need(Checkpoint(name="papercut", dtype="float16"), Sight(), **ONE)
    assert half is not None
    assert (half.weights, half.activations) == (need.weights // 2, need.activations // 2)


def test_activations_are_those_of_the_real_network_and_grow_with_rows():
    model = load_latent_model(PAPERCUT)
    side = model.vae.config.sample_size
    with TensorMemory() as memory:
        model.vae.decode(torch.zeros(1, model.vae.config.latent_channels, side // 4, side // 4))
    one, eight = (memory_need(PAPERCUT, Sight(), **ONE | {"num_rows": rows}) for rows in (1, 8))
    assert one is not None
    assert eight is not None
    assert one.activations == pytest.approx(memory.peak, rel=0.01)
    assert eight.activations == 8 * one.activations
    back = memory_need(PAPERCUT, Sight(), **ONE | {"goes_back": True})
    assert back is not None
    assert back.activations > 4 * one.activations


def test_checkpoint_that_is_not_here_has_no_estimate(tmp_path):
    assert memory_need(Checkpoint(name=str(tmp_path / "absent")), Sight(), **ONE) is None
    assert memory_need(Checkpoint(name="nobody/has-this"), Sight(), **ONE) is None
