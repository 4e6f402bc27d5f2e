"""Sites of edits: layers in order of execution, grids, and features of residual blocks."""

from functools import partial

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.attention_processor import install_attention_control
from overpaint.operators.diffusion.schedule import Step

STEP = Step(3, 500, 0.5, 0.6)


@pytest.fixture
def unet():
    """Three levels with attention at the lower two."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16, 16),
        layers_per_block=2,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
    ).eval()


class Recorder:
    """An edit that changes nothing, and keeps what it sees."""

    def __init__(self, kind, change=0.0):
        self.kind, self.change, self.seen = kind, change, []

    def applies(self, site):
        return site.layer.kind == self.kind

    def __call__(self, site, tensors):
        self.seen.append((site, tensors))
        return tensors + self.change if self.change else tensors


@torch.no_grad()
def call(unet, control, edits, size=(10, 13)):
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 4, *size, generator=generator)
    tokens = torch.randn(2, 5, 16, generator=generator)
    with control.on(edits, ("text", "source"), STEP, size):
        return unet(latents, STEP.timestep, tokens).sample


def test_layers_are_numbered_in_order_of_execution(unet):
    control = install_attention_control(unet)
    ran = []
    for name, part in unet.named_modules():
        if isinstance(part, Attention | ResnetBlock2D):
            part.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    call(unet, control, AttentionEdits())
    others = ("middle", "block", "input")
    parts = [layer for layer in control.layers if layer.kind not in others]
    assert [layer.name for layer in parts] == ran
    for kind in ("self", "cross", "residual"):
        orders = [layer.order for layer in control.layers if layer.kind == kind]
        assert orders == list(range(len(orders)))


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_edits_of_maps_are_told_grid_step_and_branches(kind, unet):
    control = install_attention_control(unet)
    recorder = Recorder(kind)
    call(unet, control, AttentionEdits(maps=[recorder]))
    assert [site.layer for site, _ in recorder.seen] == [
        layer for layer in control.layers if layer.kind == kind
    ]
    assert {site.size for site, _ in recorder.seen} == {(5, 7), (3, 4)}
    for site, maps in recorder.seen:
        assert maps.shape[-2] == site.size[0] * site.size[1]
        assert (site.step, site.branches) == (STEP, ("text", "source"))


def test_features_are_what_residual_blocks_add(unet):
    blocks, added = {}, {}
    for name, part in unet.named_modules():
        if isinstance(part, ResnetBlock2D):
            blocks[name] = part
            part.register_forward_hook(
                lambda block, inputs, output, name=name: added.update(
                    {name: output - (block.conv_shortcut or torch.nn.Identity())(inputs[0])}
                )
            )
    control = install_attention_control(unet)
    plain = call(unet, control, AttentionEdits())
    recorder = Recorder("residual")
    assert torch.equal(call(unet, control, AttentionEdits(features=[recorder])), plain)
    assert {site.layer.name for site, _ in recorder.seen} == set(blocks)
    for site, feature in recorder.seen:
        assert feature.shape[:2] == (2, 1)
        assert feature.shape[3:] == site.size
        assert torch.allclose(feature.flatten(0, 1), added[site.layer.name], atol=1e-5)


def test_edited_feature_reaches_the_prediction_and_no_later_call(unet):
    control = install_attention_control(unet)
    plain = call(unet, control, AttentionEdits())
    changed = call(unet, control, AttentionEdits(features=[Recorder("residual", 1.0)]))
    assert not torch.allclose(changed, plain, atol=1e-3)
    assert torch.equal(call(unet, control, AttentionEdits()), plain)


def _keep_input(kept, name, block, inputs):
    del block
    kept[name] = inputs[0]


def _keep_states(kept, index, block, inputs, named):
    del block, inputs
    kept[index] = named["hidden_states"]


def test_inputs_are_what_enters_residual_blocks_without_skips(unet):
    control = install_attention_control(unet)
    entered, running = {}, {}
    for name, part in unet.named_modules():
        if isinstance(part, ResnetBlock2D):
            part.register_forward_pre_hook(partial(_keep_input, entered, name))
    for index, block in enumerate(unet.up_blocks):
        block.register_forward_pre_hook(partial(_keep_states, running, index), with_kwargs=True)
    recorder = Recorder("input")
    plain = call(unet, control, AttentionEdits())
    assert torch.equal(call(unet, control, AttentionEdits(features=[recorder])), plain)
    seen = {site.layer.name: own.flatten(0, 1) for site, own in recorder.seen}
    assert set(seen) == {f"{name}.input" for name in entered}
    for name, whole in entered.items():
        own = seen[f"{name}.input"]
        assert torch.equal(own, whole[:, : own.shape[1]])
        assert (own.shape[1] < whole.shape[1]) == name.startswith("up_blocks")
    for index, own in running.items():
        assert torch.equal(seen[f"up_blocks.{index}.resnets.0.input"], own)
    for site, own in recorder.seen:
        assert own.shape[3:] == site.size
    changed = call(unet, control, AttentionEdits(features=[Recorder("input", 1.0)]))
    assert not torch.allclose(changed, plain, atol=1e-3)
