"""Watch Your Steps against the equations of its paper, a row at a time."""

import numpy as np
import pytest
import torch
from method_batches import batch_of, clean, latents_of
from method_cases import BATCH, STEPS, make
from overpaint.operators.diffusion.sampling import Branch, predict
from overpaint.operators.methods import METHODS

TEXT_SCALE, IMAGE_SCALE = 5.0, 1.5


def branches_of(batch):
    image = batch.source_latents / batch.model.scaling_factor
    text = batch.prompts([request.prompt for request in batch.requests])
    empty = batch.negative_prompts("")
    return {
        "text": Branch(prompts=text, channels_bchw=image),
        "image": Branch(prompts=empty, channels_bchw=image),
        "none": Branch(prompts=empty, channels_bchw=torch.zeros_like(image)),
    }


def relevance_of(batch, row, step):
    """Section 4.1 of arXiv 2308.08947 for one row alone."""
    both = {name: b for name, b in branches_of(batch).items() if name != "none"}
    said = predict(batch.model, batch.source.at(step.alpha_bar), step, both)
    distance = (said["text"] - said["image"])[row].abs().sum(dim=0).numpy()
    low, high = np.percentile(distance, [25, 75])
    distance = np.minimum(distance, high + 1.5 * (high - low))
    return (distance - distance.min()) / (distance.max() - distance.min())


@pytest.mark.parametrize("pipeline", METHODS.find("watch_your_steps").checkpoints)
def test_latents_are_those_of_the_papers_equations(pipeline, checkpoint_of, row):
    edit = make(
        f"watch_your_steps-{pipeline}",
        checkpoint_of,
        guidance_scale=TEXT_SCALE,
        image_guidance_scale=IMAGE_SCALE,
        wys_noise_level=0.75,
        mask_threshold=0.4,
    )
    batch = batch_of(edit, [row(number, mask_image=None) for number in range(BATCH)])
    step = batch.schedule.steps[STEPS // 4]
    maps = np.stack([relevance_of(batch, number, step) for number in range(BATCH)])
    mask = torch.from_numpy(maps)[:, None] > 0.4
    assert 0.02 < float(mask.float().mean()) < 0.98
    x = batch.source.at(batch.schedule.steps[0].alpha_bar)
    for step in batch.schedule.steps:
        said = predict(batch.model, x, step, branches_of(batch))
        eps = said["none"] + TEXT_SCALE * (said["text"] - said["image"])
        eps = eps + IMAGE_SCALE * (said["image"] - said["none"])
        after = step.alpha_bar_next
        x = after**0.5 * clean(x, eps, step.alpha_bar) + (1 - after) ** 0.5 * eps
        x = torch.where(mask, x, batch.source.at(after))
    assert torch.allclose(latents_of(edit, batch), x, atol=1e-4)


@pytest.mark.parametrize("rule", ["iqr", "otsu"])
def test_pixels_where_nothing_is_relevant_are_the_sources(rule, checkpoint_of, row):
    edit = make("watch_your_steps", checkpoint_of, mask_thresholding=rule)
    batch = batch_of(edit, [row(number, mask_image=None) for number in range(BATCH)])
    pictures = edit.settings.edit(batch.requests, batch.model)
    kept = edit.settings.sampling(batch).hooks[0].mask_b1hw[:, 0].numpy() == 0
    side_px = batch.model.factor_px
    kept = kept.repeat(side_px, axis=1).repeat(side_px, axis=2)
    for request, picture, is_kept in zip(batch.requests, pictures, kept, strict=True):
        assert np.array_equal(picture[is_kept], request.picture[is_kept])
        assert not np.allclose(picture[~is_kept], request.picture[~is_kept], atol=1)
