"""MasaCtrl, Plug-and-Play and pix2pix-zero against transcriptions of their equations."""

from functools import partial
from types import SimpleNamespace

import diffusers
import pytest
import torch
from method_cases import BATCH, make, ready
from overpaint.operators.diffusion.batch import Batch

# Of the net below: the names that the papers' rules choose.
MUTUAL = ("up_blocks.0.attentions.2", *(f"up_blocks.1.attentions.{k}" for k in range(3)))
DECODER = (*(f"up_blocks.0.attentions.{k}" for k in (1, 2)), *MUTUAL[1:])
BLOCK = "up_blocks.0.resnets.1"


@pytest.fixture(scope="module")
def checkpoint(checkpoint_of, tmp_path_factory):
    """A checkpoint whose UNet has three levels with attention at two."""
    folder = tmp_path_factory.mktemp("three_levels")
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        checkpoint_of("StableDiffusionPipeline")
    )
    torch.manual_seed(3)
    pipeline.unet = diffusers.UNet2DConditionModel(
        sample_size=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16, 16),
        layers_per_block=2,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    pipeline.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def sampled(checkpoint, checkpoint_of, row):
    """From a method and fields to its batch and the latents that it makes."""

    def run(method, **fields):
        edit = make(method, checkpoint_of, checkpoint=checkpoint, **fields)
        rows = ready(edit, [row(number, mask_image=None) for number in range(BATCH)])
        model = edit.load()
        requests = [edit.prepare(row, model).request for row in rows]
        method = edit.settings
        batch = Batch(requests, model[""], num_inference_steps=None, walked=method.walked)
        return batch, method.edited(batch)

    return run


class Injected:
    """A plain diffusers UNet that keeps parts of the source's call for the edit's calls."""

    def __init__(self, checkpoint, names, layers, block=None):
        self.unet = diffusers.UNet2DConditionModel.from_pretrained(f"{checkpoint}/unet")
        self.names, self.layers, self.kept = names, layers, {}
        self.is_source = self.has_attention = self.has_features = False
        for name, part in self.unet.named_modules():
            if name.endswith("attn1"):
                part.processor = lambda attn, hidden, *_, name=name, **__: self.attend(
                    name, attn, hidden
                )
        if block:
            self.unet.get_submodule(block).conv2.register_forward_hook(self.feature)

    def attend(self, name, attn, hidden):
        parts = {"q": attn.to_q(hidden), "k": attn.to_k(hidden), "v": attn.to_v(hidden)}
        if self.is_source:
            self.kept[name] = {part: parts[part] for part in self.names}
        elif self.has_attention and name.startswith(self.layers):
            parts |= self.kept[name]
        q, k, v = (attn.head_to_batch_dim(part) for part in parts.values())
        out = torch.softmax(q @ k.transpose(1, 2) * attn.scale, dim=-1) @ v
        return attn.to_out[0](attn.batch_to_head_dim(out))

    def feature(self, module, inputs, output):
        if self.is_source:
            self.kept["feature"] = output
        return self.kept["feature"] if self.has_features and not self.is_source else None

    def predict(self, latents, step, tokens, is_source=False):
        self.is_source = is_source
        return self.unet(latents, step.timestep, tokens).sample


@torch.no_grad()
def transcription(batch, index, net, attention, features):
    """One row by two calls a step; `attention` and `features` are the steps of the injection."""
    request = batch.requests[index]
    scheduler = diffusers.DDIMScheduler.from_config(batch.model.scheduler_config, clip_sample=False)
    scheduler.set_timesteps(len(batch.schedule.steps))
    prompts = SimpleNamespace(
        text=batch.prompts([request.prompt]).tokens_bsd,
        source=batch.prompts([request.values["inverted_path"].prompt]).tokens_bsd,
        negative=batch.prompts([""]).tokens_bsd,
    )
    path = batch.trajectory_sbchw[:, index : index + 1]
    latents = path[0]
    for step in batch.steps:
        net.predict(path[step.index], step, prompts.source, is_source=True)
        net.has_attention, net.has_features = step.index in attention, step.index in features
        text = net.predict(latents, step, prompts.text)
        negative = net.predict(latents, step, prompts.negative)
        guided = negative + 7.5 * (text - negative)
        latents = scheduler.step(guided, step.timestep, latents).prev_sample
    return latents


def check(batch, latents, net, attention, features=()):
    for index in range(BATCH):
        expected = transcription(batch, index, net, attention, features)
        assert torch.allclose(latents[index : index + 1], expected, atol=1e-4)


def test_masactrl_is_mutual_self_attention(sampled, checkpoint):
    batch, latents = sampled("masactrl", start_step=0.25)
    net = Injected(checkpoint, "kv", MUTUAL)
    check(batch, latents, net, attention={1, 2, 3})
    _, plain = sampled("ddim", strength=1.0, guidance_scale=7.5)
    assert float((latents - plain).abs().max()) > 1e-2


def test_plug_and_play_injects_features_and_self_attention(sampled, checkpoint):
    batch, latents = sampled("plug_and_play", pnp_f_t=0.75)
    net = Injected(checkpoint, "qk", DECODER, BLOCK)
    check(batch, latents, net, attention={0, 1}, features={0, 1, 2})
    _, layout = sampled("plug_and_play", pnp_f_t=0.0)
    assert float((latents - layout).abs().max()) > 1e-2


@pytest.mark.parametrize(
    ("method", "off"),
    [
        ("pix2pix_zero", {"cross_attention_guidance_amount": 0.0}),
        ("masactrl", {"start_step": 1.0}),
        ("plug_and_play", {"pnp_f_t": 0.0, "pnp_attn_t": 0.0}),
    ],
)
def test_nothing_injected_is_ddim(method, off, sampled):
    fields = {"strength": 0.5, "guidance_scale": 1.0}
    _, latents = sampled(method, **off, **fields)
    _, plain = sampled("ddim", **fields)
    assert torch.equal(latents, plain)


class Maps:
    """A plain diffusers UNet that keeps its cross-attention maps."""

    def __init__(self, checkpoint):
        self.unet = diffusers.UNet2DConditionModel.from_pretrained(f"{checkpoint}/unet")
        self.kept = {}
        for name, part in self.unet.named_modules():
            if name.endswith("attn2"):
                part.processor = partial(self.attend, name)

    def attend(self, name, attn, hidden, encoder_hidden_states, **_):
        context = encoder_hidden_states
        parts = (attn.to_q(hidden), attn.to_k(context), attn.to_v(context))
        q, k, v = (attn.head_to_batch_dim(part) for part in parts)
        self.kept[name] = torch.softmax(q @ k.transpose(1, 2) * attn.scale, dim=-1)
        return attn.to_out[0](attn.batch_to_head_dim(self.kept[name] @ v))

    def maps(self, latents, step, tokens):
        self.unet(latents, step.timestep, tokens)
        return dict(self.kept)


def pix2pix_zero_transcription(batch, index, net, amount, guidance_scale):
    """One row by algorithm 1 of arXiv 2302.03027, on the source's inverted path."""
    request = batch.requests[index]
    scheduler = diffusers.DDIMScheduler.from_config(batch.model.scheduler_config, clip_sample=False)
    scheduler.set_timesteps(len(batch.schedule.steps))
    text = batch.prompts([request.prompt]).tokens_bsd
    source = batch.prompts([request.values["inverted_path"].prompt]).tokens_bsd
    path = batch.trajectory_sbchw[:, index : index + 1]
    x = path[0]
    for step in batch.steps:
        x = x.detach().requires_grad_()
        before, now = net.maps(path[step.index], step, source), net.maps(x, step, text)
        heads = len(next(iter(now.values())))
        loss = sum((now[name] - before[name].detach()).square().sum() / heads for name in now)
        x = (x - amount * torch.autograd.grad(loss, x)[0]).detach()
        with torch.no_grad():
            negative = net.unet(x, step.timestep, source).sample
            guided = negative + guidance_scale * (
                net.unet(x, step.timestep, text).sample - negative
            )
            x = scheduler.step(guided, step.timestep, x).prev_sample
    return x


def test_pix2pix_zero_descends_towards_the_maps_of_the_source(sampled, checkpoint):
    # Random weights have nearly flat maps: a large step shows.
    fields = {"cross_attention_guidance_amount": 50.0, "guidance_scale": 3.0}
    batch, latents = sampled("pix2pix_zero", **fields)
    net = Maps(checkpoint)
    for index in range(BATCH):
        expected = pix2pix_zero_transcription(batch, index, net, 50.0, 3.0)
        assert torch.allclose(latents[index : index + 1], expected, atol=1e-4)
    _, none = sampled("pix2pix_zero", cross_attention_guidance_amount=0.0, guidance_scale=3.0)
    assert float((latents - none).abs().max()) > 1e-3
