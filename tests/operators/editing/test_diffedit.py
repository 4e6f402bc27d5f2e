"""DiffEdit against the equations of its paper."""

import numpy as np
import pytest
import torch
from method_batches import batch_of, clean, guided, latents_of, prompts_of
from method_cases import BATCH, STEPS, make, ready
from overpaint.operators.controls.noise_difference import NoiseDifference, above_threshold
from overpaint.operators.methods import METHODS
from skimage.filters import threshold_otsu

NUM_MAPS = 3


def mask_of_row(batch, row, ratio):
    """Section 3.2 of arXiv 2210.11427 for one row alone, with diffusers' robust maximum."""
    step = batch.schedule.steps[STEPS // 2]
    z = batch.trajectory_sbchw[-1]
    generator = torch.Generator().manual_seed(batch.requests[row].seed)
    prompts = {
        "source": batch.prompts(batch.source_prompts()),
        "target": batch.prompts([request.prompt for request in batch.requests]),
    }
    distances = []
    for _ in range(NUM_MAPS):
        noise = torch.randn(z.shape[1:], generator=generator)
        x = step.alpha_bar**0.5 * z + (1 - step.alpha_bar) ** 0.5 * noise
        said = batch.predict(x, step, prompts)
        distances.append((said["target"] - said["source"])[row].abs())
    distance = torch.stack(distances).mean(dim=(0, 1))
    maximum = ratio * distance.mean()
    return distance.clamp(0, maximum) / maximum > 0.5


@pytest.mark.parametrize("pipeline", METHODS.find("diffedit").checkpoints)
def test_latents_are_those_of_the_papers_equations(pipeline, checkpoint_of, row):
    ratio, scale = 2.0, 3.0
    edit = make(
        f"diffedit-{pipeline}",
        checkpoint_of,
        guidance_scale=scale,
        num_maps_per_mask=NUM_MAPS,
        mask_thresholding_ratio=ratio,
        strength=0.75,
    )
    batch = batch_of(edit, ready(edit, [row(n, mask_image=None) for n in range(BATCH)]))
    mask = torch.stack([mask_of_row(batch, number, ratio) for number in range(BATCH)])[:, None]
    assert 0.02 < float(mask.float().mean()) < 0.98
    path, prompts = batch.trajectory_sbchw, prompts_of(batch)
    x = path[1]
    for step in batch.schedule.steps[1:]:
        eps = guided(batch.predict(x, step, prompts), scale)
        after = step.alpha_bar_next
        x = after**0.5 * clean(x, eps, step.alpha_bar) + (1 - after) ** 0.5 * eps
        x = torch.where(mask, x, path[step.index + 1])
    assert torch.allclose(latents_of(edit, batch), x, atol=1e-4)


def test_a_rows_mask_limits_the_one_that_is_found(checkpoint_of, row):
    edit = make("diffedit", checkpoint_of, num_maps_per_mask=1, mask_dilate_px=0)
    batch = batch_of(edit, ready(edit, [row(number) for number in range(BATCH)]))
    latents, source = latents_of(edit, batch), batch.trajectory_sbchw[-1]
    outside = (batch.mask_b1hw == 0).expand_as(latents)
    assert torch.equal(latents[outside], source[outside])
    assert not torch.equal(latents, source)


def test_thresholds_are_each_rows_own():
    torch.manual_seed(0)
    distance = torch.rand(2, 1, 8, 8).square()
    distance[:, :, :4] += 1
    louder = torch.cat([distance[:1], 40 * distance[1:]])
    for rule in ("ratio", "otsu"):
        fields = NoiseDifference(mask_thresholding=rule, mask_thresholding_ratio=2.0)
        alone = above_threshold(distance, fields)
        together = above_threshold(louder, fields)
        assert torch.equal(alone[0], together[0])
        assert torch.allclose(alone[1], together[1], atol=1e-5)


def test_otsu_finds_a_region_that_is_more_than_the_ratio_can_mark():
    torch.manual_seed(0)
    distance = 0.05 * torch.rand(1, 1, 16, 16)
    distance[..., :14] += 1  # seven eighths of the picture
    found = above_threshold(distance, NoiseDifference(mask_thresholding="otsu")) > 1
    assert found[..., :13].all()
    assert not found[..., 15:].any()
    assert not (above_threshold(distance, NoiseDifference()) > 1).any()


def test_otsu_is_that_of_the_smoothed_distance():
    torch.manual_seed(0)
    distance = torch.rand(1, 1, 6, 6)
    padded = np.pad(distance[0, 0].double().numpy(), 1, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    smooth = np.nanmean(windows, axis=(2, 3)).astype(np.float32)
    found = above_threshold(distance, NoiseDifference(mask_thresholding="otsu"))[0, 0]
    assert np.allclose(found.numpy(), smooth / threshold_otsu(smooth), atol=1e-4)


def test_equal_prompts_leave_the_source(checkpoint_of, row):
    edit = make("diffedit", checkpoint_of, num_maps_per_mask=1)
    rows = ready(edit, [row(number, mask_image=None) for number in range(BATCH)])
    batch = batch_of(edit, [{**r, "target_prompt": r["source_prompt"]} for r in rows])
    assert torch.equal(latents_of(edit, batch), batch.trajectory_sbchw[-1])
