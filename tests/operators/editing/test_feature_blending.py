"""PFB-Diff, FISEdit and masks by words against transcriptions on a plain UNet of diffusers."""

import io

import diffusers
import numpy as np
import pytest
import torch
from method_batches import batch_of, clean, guided, latents_of, prompts_of
from method_cases import STEPS, make, ready
from overpaint.operators.controls.latent_difference import opened
from overpaint.operators.mask import Mask
from overpaint.pipeline.images import decode_mask
from PIL import Image
from skimage.filters import threshold_otsu

SCALE = 3.0
COARSE = ("down_blocks.1", "mid_block", "up_blocks.0")
WORDS = {"source_prompt": "a b", "target_prompt": "a c"}


class Plain:
    """A plain UNet that keeps features and maps of one call, and blends them into others."""

    def __init__(self, checkpoint, coarse=("",)):
        self.unet = diffusers.UNet2DConditionModel.from_pretrained(f"{checkpoint}/unet").eval()
        self.kept, self.maps, self.mask, self.word, self.is_source = {}, {}, None, None, False
        for name, part in self.unet.named_modules():
            if name.endswith("attn2"):
                part.processor = lambda attn, hidden, encoder_hidden_states=None, name=name, **_: (
                    self.attend(name, attn, hidden, encoder_hidden_states)
                )
            if type(part).__name__ == "ResnetBlock2D" and name.startswith(coarse):
                part.register_forward_pre_hook(
                    lambda _, inputs, name=name: self.blend(name, *inputs)
                )

    def blend(self, name, hidden, temb):
        own = hidden
        if name.startswith("up_blocks"):
            before = {"up_blocks.0.resnets.0": 16, "up_blocks.0.resnets.1": 16}
            before |= {"up_blocks.1.resnets.0": 16, "up_blocks.1.resnets.1": 8}
            own = hidden[:, : before[name]]
        if self.is_source:
            self.kept[name] = own
        elif self.mask is not None:
            mask = self.at(own.shape[2:])
            blended = mask * own + (1 - mask) * self.kept[name]
            return torch.cat([blended, hidden[:, own.shape[1] :]], dim=1), temb
        return None

    def at(self, size):
        scaled = torch.nn.functional.interpolate(self.mask, size, mode="bicubic")
        return scaled.clamp(0, 1)

    def attend(self, name, attn, hidden, context):
        q, k, v = (
            attn.head_to_batch_dim(part)
            for part in (attn.to_q(hidden), attn.to_k(context), attn.to_v(context))
        )
        logits = q @ k.transpose(1, 2) * attn.scale
        if self.word is not None:
            side = int(hidden.shape[1] ** 0.5)
            outside = (self.at((side, side)) < 0.5)[0].flatten()
            logits[:, outside, self.word] = -torch.inf
        maps = torch.softmax(logits, dim=-1)
        self.maps[name] = maps
        return attn.to_out[0](attn.batch_to_head_dim(maps @ v))

    @torch.no_grad()
    def __call__(self, x, step, prompts, **state):
        self.mask, self.word = state.get("mask"), state.get("word")
        self.is_source = state.get("is_source", False)
        return self.unet(x, step.timestep, prompts.tokens_bsd).sample


@pytest.fixture
def checkpoint(checkpoint_of):
    return checkpoint_of("StableDiffusionPipeline")


def batch_and_edit(method, checkpoint_of, row, **fields):
    edit = make(method, checkpoint_of, guidance_scale=SCALE, batch_size=1, **fields)
    return batch_of(edit, ready(edit, [row(1, **WORDS)])), edit


def walk(batch, plain, *, mask, blended, held, word):
    """The blended walk from the start of a batch's trajectory."""
    path, prompts = batch.trajectory_sbchw, prompts_of(batch)
    source, x = batch.prompts(batch.source_prompts()), batch.trajectory_sbchw[0]
    for step in batch.schedule.steps:
        plain(path[step.index], step, source, is_source=True)
        fused = mask if step.index < blended else None
        said = {
            "text": plain(x, step, prompts["text"], mask=fused, word=word),
            "negative": plain(x, step, prompts["negative"], mask=fused),
        }
        eps, after = guided(said, SCALE), step.alpha_bar_next
        x = after**0.5 * clean(x, eps, step.alpha_bar) + (1 - after) ** 0.5 * eps
        if step.index < held:
            x = mask * x + (1 - mask) * path[step.index + 1]
    return x


@pytest.mark.parametrize("masked_attn", [True, False])
def test_pfb_diff_is_that_of_the_paper(masked_attn, checkpoint, checkpoint_of, row):
    batch, edit = batch_and_edit("pfb_diff", checkpoint_of, row, masked_attn=masked_attn)
    mask = batch.mask_b1hw
    assert 0.05 < float(mask.mean()) < 0.6
    expected = walk(
        batch,
        Plain(checkpoint, COARSE),
        mask=mask,
        blended=STEPS,
        held=STEPS // 2,
        word=2 if masked_attn else None,
    )
    assert torch.allclose(latents_of(edit, batch), expected, atol=1e-4)


def test_pfb_diff_of_a_mask_of_everything_is_guidance(checkpoint_of, row):
    white = {"mask_image": png_of(255)}
    edit = make("pfb_diff", checkpoint_of, batch_size=1, guidance_scale=SCALE)
    batch = batch_of(edit, ready(edit, [row(1, **WORDS, **white)]))
    plain = make("ddim", checkpoint_of, batch_size=1, guidance_scale=SCALE, strength=1.0)
    difference = (latents_of(edit, batch) - latents_of(plain, batch)).abs().max()
    assert difference < 1e-4


def png_of(value):
    out = io.BytesIO()
    Image.new("L", (32, 32), value).save(out, "PNG")
    return out.getvalue()


def test_pfb_diff_ends_blending_at_its_timestep(checkpoint, checkpoint_of, row):
    batch, edit = batch_and_edit(
        "pfb_diff", checkpoint_of, row, t_combine=500, self_replace_step=1.0, masked_attn=False
    )
    expected = walk(
        batch,
        Plain(checkpoint, COARSE),
        mask=batch.mask_b1hw,
        blended=STEPS // 2,
        held=0,
        word=None,
    )
    assert torch.allclose(latents_of(edit, batch), expected, atol=1e-4)


def parted(batch, plain, steps):
    """The places where both prompts lead apart: section 4 of arXiv 2305.17423 for one row."""
    prompts = prompts_of(batch)
    source = {**prompts, "text": batch.prompts(batch.source_prompts())}
    latents, total = {"source": batch.trajectory_sbchw[0]}, 0.0
    latents["text"] = latents["source"]
    for step in batch.schedule.steps[:steps]:
        for name, own in (("source", source), ("text", prompts)):
            x, after = latents[name], step.alpha_bar_next
            eps = guided({key: plain(x, step, own[key]) for key in own}, 7.5)
            x = after**0.5 * clean(x, eps, step.alpha_bar) + (1 - after) ** 0.5 * eps
            latents[name] = x
        apart = (latents["text"] - latents["source"])[0].abs().mean(dim=0).numpy()
        total = total + (apart - apart.min()) / np.ptp(apart)
    total = (total - total.min()) / np.ptp(total)
    return total > threshold_otsu(total)


def open_by_hand(mask):
    """The union of all squares of 2 by 2 that are inside, or are as far as there is a picture."""
    result = np.zeros_like(mask)
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y : y + 2, x : x + 2].all():
                result[y : y + 2, x : x + 2] = True
    return result


def test_fisedit_is_that_of_the_paper(checkpoint, checkpoint_of, row):
    batch, edit = batch_and_edit("fisedit", checkpoint_of, row, num_mask_steps=2)
    plain = Plain(checkpoint)
    found = open_by_hand(parted(batch, plain, 2))
    assert 0.02 < found.mean() < 0.98
    mask = torch.from_numpy(found)[None, None] * batch.mask_b1hw
    assert float(mask.sum()) > 0
    expected = walk(batch, plain, mask=mask, blended=STEPS, held=STEPS, word=None)
    assert torch.allclose(latents_of(edit, batch), expected, atol=1e-4)


def test_opening_takes_single_places_away():
    generator = np.random.default_rng(0)
    mask = generator.random((9, 12)) < 0.6
    mask[0, 0], mask[0, 1], mask[1, :2] = True, False, False
    result = opened(torch.from_numpy(mask).float()[None, None])[0, 0].numpy() > 0
    assert np.array_equal(result, open_by_hand(mask))
    assert not result[0, 0]


def test_fisedit_of_the_sources_own_prompt_is_the_source(checkpoint_of, row):
    edit = make("fisedit", checkpoint_of, batch_size=1)
    batch = batch_of(edit, ready(edit, [row(1, source_prompt="a b", target_prompt="a b")]))
    assert torch.equal(latents_of(edit, batch), batch.trajectory_sbchw[-1])


@pytest.mark.parametrize("rule", ["otsu", "ratio"])
def test_words_are_found_where_they_are_attended_to(rule, checkpoint, checkpoint_of, row):
    given = row(1, source_prompt="a Red b", mask_phrase="red b")
    fields = {"resolution": 32, "num_inference_steps": 10, "batch_size": 1}
    finder = Mask(method="words", checkpoint=checkpoint, mask_thresholding=rule, **fields)
    (answer,) = finder.run([given], finder.load())
    edit = make("sdedit", checkpoint_of, num_inference_steps=10, batch_size=1)
    batch = batch_of(edit, [given])
    step, plain = batch.schedule.steps[8], Plain(checkpoint)
    plain(batch.source.at(step.alpha_bar), step, batch.prompts([given["source_prompt"]]))
    maps = [maps[:, :, 2:6].sum(dim=-1).mean(dim=0) for maps in plain.maps.values()]
    grids = [words.view(1, 1, 8, 8) for words in maps]
    resize = torch.nn.functional.interpolate
    heat = torch.stack([resize(grid, (16, 16), mode="bilinear") for grid in grids]).mean(dim=0)
    if rule == "otsu":
        ones = torch.nn.functional.avg_pool2d
        heat = ones(heat, 3, 1, 1, count_include_pad=False)
        heat = heat / threshold_otsu(heat.numpy())
    else:
        heat = heat / (0.3 * heat.max())
    wanted = resize(heat, (32, 32), mode="bilinear")[0, 0].numpy()
    found = decode_mask(answer["mask_image"], 32, 32) > 0
    sure = abs(wanted - 1) > 0.02
    assert np.array_equal(found[sure], wanted[sure] > 1)


def test_phrase_that_the_prompt_lacks_is_a_prompt_of_its_own(checkpoint, row):
    finder = Mask(method="words", checkpoint=checkpoint, resolution=32, batch_size=1)
    model = finder.load()
    alone, lacking = (
        finder.run([row(1, source_prompt=prompt, mask_phrase="c d")], model)
        for prompt in (None, "a b")
    )
    assert alone == lacking
