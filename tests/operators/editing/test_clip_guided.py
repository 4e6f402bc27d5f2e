"""Blended Diffusion and RDM against a transcription on plain models, and CLIP's augmentations."""

import numpy as np
import pytest
import torch
from method_batches import batch_of
from method_cases import make
from overpaint.operators.controls.clip_loss import CLIPDistance, _from_corners, _homographies
from overpaint.operators.edit import Edit
from torch.nn import functional
from transformers import CLIPModel, CLIPTokenizer

SCALE = 3.0
WEIGHTS = {"clip_guidance_lambda": 900.0, "range_lambda": 40.0, "l2_sim_lambda": 300.0}


def batch_and_edit(method, checkpoint_of, clip, row, **fields):
    given = {"clip_checkpoint": clip, "aug_num": 1, "batch_size": 1, **WEIGHTS, **fields}
    edit = make(method, checkpoint_of, **given)
    return batch_of(edit, [row(1)]), edit


def angle_squared(clip, picture, text):
    """Half of the squared angle, doubled twice: the spherical distance of the official code."""
    model, tokenizer = CLIPModel.from_pretrained(clip), CLIPTokenizer.from_pretrained(clip)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    tokens = tokenizer([text], padding="max_length", truncation=True, return_tensors="pt")
    with torch.no_grad():
        wanted = model.get_text_features(**tokens).pooler_output
    image = model.get_image_features(((picture + 1) / 2 - mean) / std).pooler_output
    one, other = (functional.normalize(each, dim=-1) for each in (image, wanted))
    return ((one - other).norm(dim=-1) / 2).arcsin().square().mul(2).sum()


def expected_latents(batch, clip, predict, first):
    """The official sampler for one row: DDPM's posterior, moved by its variance, and blended."""
    model, request = batch.model, batch.requests[0]
    generator = torch.Generator().manual_seed(request.seed)
    source, z = torch.from_numpy(request.picture).permute(2, 0, 1)[None] / 127.5 - 1, None
    mask = torch.from_numpy(request.mask)[None, None]
    z, latent_mask = batch.source_latents, functional.avg_pool2d(mask, 2)
    draw = lambda: torch.randn(z.shape[1:], generator=generator)[None]  # noqa: E731
    alpha = batch.schedule.steps[first].alpha_bar
    x = draw() if first == 0 else alpha**0.5 * z + (1 - alpha) ** 0.5 * draw()
    for step in batch.schedule.steps[first:]:
        x, now, then = x.detach().requires_grad_(), step.alpha_bar, step.alpha_bar_next
        x0 = (x - (1 - now) ** 0.5 * predict(x, step)) / now**0.5
        share = (1 - now) ** 0.5
        picture = model.vae.decode((x0 * share + x * (1 - share)) / 0.5).sample
        loss = WEIGHTS["clip_guidance_lambda"] * angle_squared(clip, picture * mask, request.prompt)
        beyond = (picture - picture.clamp(-1, 1)).square().mean()
        change = ((picture - source) * (1 - mask)).square().mean()
        loss = loss + WEIGHTS["range_lambda"] * beyond + WEIGHTS["l2_sim_lambda"] * change
        (gradient,) = torch.autograd.grad(loss, x)
        torch.rand((1, 13), generator=generator, dtype=torch.float64)
        beta = 1 - now / then
        variance = beta * (1 - then) / (1 - now)
        mean = then**0.5 * beta / (1 - now) * x0 + (1 - beta) ** 0.5 * (1 - then) / (1 - now) * x
        noise, outside = draw(), draw()
        x = mean - variance * gradient
        if step is not batch.schedule.steps[-1]:
            x = x + variance**0.5 * noise
        outside = then**0.5 * z + (1 - then) ** 0.5 * outside
        x = (outside + latent_mask * (x - outside)).detach()
    return x


def test_blended_diffusion_is_that_of_the_paper(checkpoint_of, clip, row):
    batch, edit = batch_and_edit("blended_diffusion", checkpoint_of, clip, row)
    empty = batch.prompts([""]).tokens_bsd
    unet = batch.model.unet
    expected = expected_latents(batch, clip, lambda x, s: unet(x, s.timestep, empty).sample, 1)
    edited = edit.settings.edited(batch)
    assert torch.allclose(edited, expected, atol=1e-4)
    free, _ = batch_and_edit("blended_diffusion", checkpoint_of, clip, row)
    unguided = edit.settings.model_copy(update=dict.fromkeys(WEIGHTS, 0.0)).edited(free)
    assert not torch.allclose(edited, unguided, atol=1e-2)


def test_rdm_is_that_of_the_paper(checkpoint_of, clip, row):
    batch, edit = batch_and_edit("rdm", checkpoint_of, clip, row, guidance_scale=SCALE)
    unet, texts = batch.model.unet, [batch.requests[0].prompt, ""]
    text, empty = (batch.prompts([each]).tokens_bsd for each in texts)

    def predict(x, step):
        said = [unet(x, step.timestep, tokens).sample for tokens in (text, empty)]
        return said[1] + SCALE * (said[0] - said[1])

    expected = expected_latents(batch, clip, predict, 0)
    assert torch.allclose(edit.settings.edited(batch), expected, atol=1e-4)


def test_only_clip_reads_the_words_of_blended_diffusion(checkpoint_of, clip, row):
    given = {"clip_checkpoint": clip, "batch_size": 2, "mask_dilate_px": 0}
    rows = [row(1), row(1, target_prompt="quite another one")]
    for weight, agree in ((0.0, True), (1000.0, False)):
        edit = make("blended_diffusion", checkpoint_of, clip_guidance_lambda=weight, **given)
        one, other = edit.settings.edited(batch_of(edit, rows))
        assert torch.equal(one, other) == agree


def test_first_augmentation_is_the_picture_and_others_are_not():
    drawn = _homographies(6, torch.Generator().manual_seed(0))
    assert torch.allclose(drawn[0], torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert len({tuple(each.flatten().tolist()) for each in drawn}) > 3


def test_corners_that_moved_inwards_see_the_corners():
    inwards = torch.tensor([[[0.1, 0.6], [0.7, 0.0], [0.3, 0.2], [0.0, 0.5]]], dtype=torch.float64)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    (homography,) = _from_corners(inwards).numpy()
    for corner, share in zip(corners, inwards[0].numpy(), strict=True):
        x, y, w = homography @ [*(corner * (1 - share)), 1]
        assert np.allclose([x / w, y / w], corner)


def test_distance_of_a_row_is_the_mean_of_its_own_augmentations(clip):
    from overpaint.operators.controls.clip_loss import load_frozen
    from overpaint.operators.models.weights import Checkpoint

    torch.manual_seed(0)
    loaded = load_frozen(Checkpoint(name=clip, part="clip"))
    texts = functional.normalize(torch.randn(2, 16), dim=1)
    pictures = torch.rand(2, 3, 20, 32) * 2 - 1
    seeds = [3, 4]

    def distances(order):
        distance = CLIPDistance(clip=loaded, texts_bd=texts[order], num_augmentations=4)
        generators = [torch.Generator().manual_seed(seeds[row]) for row in order]
        return distance(pictures[order], generators)

    assert torch.equal(distances([0, 1]), distances([1, 0]).flip(0))


def test_weights_of_clip_are_in_the_revisions(checkpoint_of, clip):
    edit = make("rdm", checkpoint_of, clip_checkpoint=clip)
    assert set(edit.revisions()) == {"checkpoint", "clip_checkpoint"}
    edit.check()
    chosen = Edit(choices={"a": {"method": "rdm", "clip_checkpoint": clip}, "sdedit": {}})
    assert set(chosen.revisions()) == {"a", "sdedit", "a.clip_checkpoint"}
    with pytest.raises(ValueError, match="clip_checkpoint"):
        make("rdm", checkpoint_of, clip_checkpoint="/nowhere").check()
