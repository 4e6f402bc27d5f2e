"""Drags: warps fitted to points, and methods that move objects, against their equations."""

import diffusers
import numpy as np
import pytest
import torch
from method_batches import batch_of, clean, guided
from method_cases import BATCH, STEPS, make, ready
from overpaint.operators.controls.warp import Warp, fit_warp
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import encode_mask

SHIFT = 5
"""Latent pixels, of two pixels each, by which the object moves to the right."""


def dragged_row(row, number, **columns):
    """A row whose object, 4 by 4 latent pixels, moves to the right; the mask has both places."""
    mask = np.zeros((32, 32), np.uint8)
    mask[8:16, 4:12] = mask[8:16, 4 + 2 * SHIFT : 12 + 2 * SHIFT] = 255
    points = [[8, 12, 8 + 2 * SHIFT, 12]]
    return row(number, **{"mask_image": encode_mask(mask), "points": points, **columns})


@pytest.fixture
def dragged(checkpoint_of, row):
    """From a method and fields to the batch of some rows, and the latents that it makes."""

    def run(method, columns=None, **fields):
        edit = make(method, checkpoint_of, mask_dilate_px=0, feather_px=0, **fields)
        rows = [dragged_row(row, number, **(columns or {})) for number in range(BATCH)]
        batch = batch_of(edit, ready(edit, rows))
        return batch, edit.settings.edited(batch)

    return run


@pytest.fixture(scope="module")
def unet(checkpoint_of):
    """The UNet of the checkpoint alone, and what it gives at the decoder's blocks."""
    return Recorded(checkpoint_of("StableDiffusionPipeline"))


class Recorded:
    """A plain diffusers UNet that keeps what its decoder's blocks give, and keys and values."""

    def __init__(self, folder):
        self.unet = diffusers.UNet2DConditionModel.from_pretrained(f"{folder}/unet").eval()
        self.unet.requires_grad_(False)
        self.features, self.kept, self.is_source, self.looks = {}, {}, False, False
        for name, block in enumerate(self.unet.up_blocks):
            block.register_forward_hook(
                lambda _, __, output, name=name: self.features.update({name: output})
            )
        for name, part in self.unet.named_modules():
            if name.endswith("attn1") and name.startswith("up"):
                part.processor = lambda attn, hidden, *_, name=name, **__: self.attend(
                    name, attn, hidden
                )

    def attend(self, name, attn, hidden):
        query, key, value = attn.to_q(hidden), attn.to_k(hidden), attn.to_v(hidden)
        if self.is_source:
            self.kept[name] = (key, value)
        elif self.looks:
            key, value = self.kept[name]
        q, k, v = (attn.head_to_batch_dim(part) for part in (query, key, value))
        out = torch.softmax(q @ k.transpose(1, 2) * attn.scale, dim=-1) @ v
        return attn.to_out[0](attn.batch_to_head_dim(out))

    def __call__(self, latents, step, tokens, is_source=False):
        self.is_source = is_source
        return self.unet(latents, step.timestep, tokens).sample, dict(self.features)


def tokens_of(batch, index):
    request = batch.requests[index]
    return {
        "text": batch.prompts([request.prompt]).tokens_bsd,
        "negative": batch.prompts([""]).tokens_bsd,
        "source": batch.prompts([request.values["inverted_path"].prompt]).tokens_bsd,
    }


def test_several_drags_are_a_scale_and_a_shift():
    start = np.array([[4.0, 4.0], [12.0, 4.0], [8.0, 10.0]])
    end = 1.5 * start + [3.0, -2.0]
    scale, shift = fit_warp(np.hstack([start, end]), (32, 16))
    assert scale == pytest.approx(1.5)
    assert shift == pytest.approx([3.0 / 32, -2.0 / 16])


@pytest.mark.parametrize("points", [[[3, 4, 9, 2]], [[3, 4, 9, 2], [3, 4, 9, 2]]])
def test_one_drag_is_a_shift(points):
    scale, shift = fit_warp(np.array(points, float), (32, 32))
    assert scale == 1.0
    assert shift == pytest.approx([6 / 32, -2 / 32])


def test_no_points_fail_the_row():
    with pytest.raises(RowError) as failed:
        fit_warp(np.zeros((0, 4)), (32, 32))
    assert failed.value.code == "points_missing"


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_a_warp_by_whole_pixels_copies_them(mode):
    x = torch.randn(2, 3, 8, 16, generator=torch.Generator().manual_seed(0))
    warp = Warp(scale_b=torch.ones(2), shift_b2=torch.tensor([[2 / 16, 0.0], [0.0, -3 / 8]]))
    moved = warp(x, mode)
    assert torch.allclose(moved[0, :, :, 2:], x[0, :, :, :-2], atol=1e-5)
    assert not moved[0, :, :, :2].any()
    assert torch.allclose(moved[1, :, :-3], x[1, :, 3:], atol=1e-5)


def test_a_warp_enlarges_about_the_fixed_point():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    warp = Warp(scale_b=torch.tensor([2.0]), shift_b2=torch.zeros(1, 2))
    expected = x[..., :2, :2].repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(warp(x, "nearest"), expected)
    assert torch.allclose(warp.inverse(warp(x, "nearest"), "nearest")[..., :2, :2], x[..., :2, :2])


def dragon_energy(edit, source, before, after):
    """The paper's energy by boolean indices, of one row."""

    def alike(one, other):
        return (torch.cosine_similarity(one, other, dim=0) + 1) / 2

    energy = 0.0
    for block in edit:
        f, g = edit[block][0], source[block][0].detach()
        moved = torch.roll(g, SHIFT, dims=2)
        rest, left = ~before & ~after, before & ~after
        inpaint = alike(f[:, left].mean(dim=1), g[:, rest].mean(dim=1))
        energy = energy + 4 / (1 + 4 * alike(f[:, after], moved[:, after]).mean())
        energy = energy + 6 / (1 + 4 * alike(f[:, rest], g[:, rest]).mean())
        energy = energy + 0.2 * alike(f[:, left], g[:, left]).mean() + 0.8 / (1 + 4 * inpaint)
    return energy / len(edit)


def dragon(batch, index, unet, scale):
    """One row by the paper: energy in the first 2 steps, noise in steps 1 and 2, looks from 1."""
    tokens, noise = tokens_of(batch, index), torch.Generator().manual_seed(100 + index)
    before = torch.zeros(16, 16, dtype=torch.bool)
    before[4:8, 2:6] = True
    after = torch.roll(before, SHIFT, dims=1)
    path = batch.trajectory_sbchw[:, index : index + 1]
    x = torch.where(after, torch.roll(path[0], SHIFT, dims=3), path[0])
    for step in batch.steps:
        unet.looks = step.index >= 1
        _, source = unet(path[step.index], step, tokens["source"], is_source=True)
        x = x.detach().requires_grad_()
        text, edit = unet(x, step, tokens["text"])
        (gradient,) = torch.autograd.grad(dragon_energy(edit, source, before, after), x)
        with torch.no_grad():
            negative, _ = unet(x, step, tokens["negative"])
            eps = guided({"text": text, "negative": negative}, 4.0)
            x0 = clean(x, eps + (scale * gradient if step.index < 2 else 0), step.alpha_bar)
            a, b = step.alpha_bar, step.alpha_bar_next
            sigma = 0.4 * ((1 - b) / (1 - a) * (1 - a / b)) ** 0.5
            plain = b**0.5 * x0 + (1 - b) ** 0.5 * eps
            if step.index in (1, 2):
                noisy = b**0.5 * x0 + (1 - b - sigma**2) ** 0.5 * eps
                noisy = noisy + sigma * torch.randn(1, 4, 16, 16, generator=noise)
                plain = torch.where(before | after, noisy, plain)
            x = torch.where(before | after, plain, path[step.index + 1])
    return x


def test_dragon_diffusion_is_the_papers(dragged, unet):
    fields = {"sde_start": 0.25, "sde_end": 0.75, "attention_start": 0.25, "energy_share": 0.5}
    batch, latents = dragged("dragon_diffusion", energy_scale=300.0, **fields)
    for index in range(BATCH):
        expected = dragon(batch, index, unet, 300.0)
        assert torch.allclose(latents[index : index + 1], expected, atol=1e-4)
    _, other = dragged("dragon_diffusion", energy_scale=0.0, **fields)
    assert float((latents - other).abs().max()) > 1e-2


NO_DRAG = {"points": [[8, 12, 8, 12]]}


def test_dragon_diffusion_of_nothing_is_ddim(dragged):
    off = {"energy_scale": 0.0, "sde_strength": 0.0, "attention_start": 1.0}
    _, latents = dragged("dragon_diffusion", NO_DRAG, guidance_scale=3.0, **off)
    _, plain = dragged("ddim", NO_DRAG, guidance_scale=3.0, strength=1.0)
    assert torch.allclose(latents, plain, atol=1e-5)


def test_an_object_by_words_needs_its_words(dragged):
    _, latents = dragged("dragon_diffusion", object_from="words")
    assert bool(latents.isfinite().all())
    for phrase, code in ((None, "mask_phrase_missing"), ("q", "phrase_not_in_prompt")):
        with pytest.raises(RowError) as failed:
            dragged("dragon_diffusion", {"mask_phrase": phrase}, object_from="words")
        assert failed.value.code == code


def test_an_object_by_mask_needs_a_mask(dragged):
    with pytest.raises(RowError) as failed:
        dragged("dragon_diffusion", {"mask_image": None})
    assert failed.value.code == "mask_missing"


@torch.no_grad()
def sde_drag(batch, index, unet, radius):
    """One row by algorithm 1 of arXiv 2311.01410: recorded noise, a copied patch, the way back."""
    request, noise = batch.requests[index], torch.Generator().manual_seed(100 + index)
    tokens = {"text": batch.prompts([request.prompt]), "negative": batch.prompts([""])}

    def mean_and_sigma(x, step):
        said = {name: unet(x, step, own.tokens_bsd)[0] for name, own in tokens.items()}
        eps = guided(said, 1 + 2 * (STEPS - 1 - step.index) / (len(batch.steps) - 1))
        a, b = step.alpha_bar, step.alpha_bar_next
        sigma = ((1 - b) / (1 - a) * (1 - a / b)) ** 0.5
        return b**0.5 * clean(x, eps, a) + (1 - b - sigma**2) ** 0.5 * eps, sigma

    x, recorded, levels = batch.source_latents[index : index + 1], {}, {}
    for step in batch.steps[::-1]:
        a, b = step.alpha_bar, step.alpha_bar_next
        unit = torch.randn(1, 4, 16, 16, generator=noise)
        up = (a / b) ** 0.5 * x + (1 - a / b) ** 0.5 * unit
        mean, sigma = mean_and_sigma(up, step)
        levels[step.index], recorded[step.index] = x, (x - mean) / sigma
        x = up
    unit = torch.randn(1, 4, 16, 16, generator=noise)
    before = x.clone()
    rows, columns = slice(6 - radius, 7 + radius), slice(4 - radius, 5 + radius)
    left = 0.3 * before + (1 - 0.09) ** 0.5 * unit
    x[..., rows, columns] = left[..., rows, columns]
    moved = slice(4 + SHIFT - radius, 5 + SHIFT + radius)
    x[..., rows, moved] = 1.1 * before[..., rows, columns]
    mask = batch.mask_b1hw[index]
    x = before.lerp(x, mask)
    for step in batch.steps:
        mean, sigma = mean_and_sigma(x, step)
        x = levels[step.index].lerp(mean + sigma * recorded[step.index], mask)
    return x


def test_sde_drag_is_the_papers(dragged, unet):
    unet.looks = False
    batch, latents = dragged("sde_drag", adapt_radius=2, strength=0.75)
    for index in range(BATCH):
        expected = sde_drag(batch, index, unet, 2)
        assert torch.allclose(latents[index : index + 1], expected, atol=1e-4)


def test_sde_drag_of_nothing_gives_the_source(dragged):
    fields = {"copy_scale": 1.0, "num_drag_steps": 2, "guidance_scale": 5.0}
    batch, latents = dragged("sde_drag", NO_DRAG, **fields)
    assert torch.allclose(latents, batch.source_latents, atol=1e-4)
    _, moved = dragged("sde_drag", **fields)
    assert float((latents - moved).abs().max()) > 1e-2


def test_patches_end_at_the_border(dragged):
    _, latents = dragged("sde_drag", {"points": [[-4, 12, 30, 31], [31, 0, 70, -9]]})
    assert bool(latents.isfinite().all())
