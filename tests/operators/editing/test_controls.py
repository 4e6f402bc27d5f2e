"""What controls do to latents, before a picture is pasted into its source."""

import pytest
import torch
from method_cases import BATCH, make, ready
from overpaint.operators.diffusion.batch import Batch


def sampled(edit, rows):
    """The batch of some rows, and the latents that their method makes."""
    model = edit.load()
    requests = [edit.prepare(row, model).request for row in rows]
    settings = edit.settings
    steps = getattr(settings, "num_inference_steps", None)
    batch = Batch(requests, model[""], num_inference_steps=steps, walked=settings.walked)
    sampling = settings.complete(settings.sampling(batch))
    return batch, batch.run(settings.branches(), sampling)


@pytest.mark.parametrize(
    "method", ["sdedit", "blended_latent_diffusion", "ddim", "prompt_to_prompt", "null_text"]
)
def test_latents_outside_the_mask_are_the_sources(method, checkpoint_of, row):
    edit = make(method, checkpoint_of, mask_dilate_px=0)
    batch, latents = sampled(edit, ready(edit, [row(number) for number in range(BATCH)]))
    is_inverted = edit.settings.needs and "inverted_path" in batch.requests[0].values
    last = batch.steps[-1].alpha_bar_next
    source = batch.trajectory_sbchw[-1] if is_inverted else batch.source.at(last)
    outside = (batch.mask_b1hw == 0).expand_as(latents)
    assert outside.any()
    assert torch.equal(latents[outside], source[outside])
    assert not torch.allclose(latents[~outside], source[~outside], atol=1e-2)


def test_prompt_to_prompt_is_ddim_where_no_attention_is_replaced(checkpoint_of, row):
    rows = ready(make("ddim", checkpoint_of), [row(number) for number in range(BATCH)])
    _, plain = sampled(make("ddim", checkpoint_of), rows)
    _, none = sampled(make("prompt_to_prompt", checkpoint_of, cross_replace_steps=0.0), rows)
    _, every = sampled(make("prompt_to_prompt", checkpoint_of, cross_replace_steps=1.0), rows)
    assert torch.equal(none, plain)
    # Another shape of the batch moves the last digits; attention moves more.
    assert float((every - plain).abs().max()) > 1e-3


def test_sdedit_starts_from_the_noised_source_and_not_from_noise_alone(checkpoint_of, row):
    edit = make("sdedit", checkpoint_of, strength=0.25)
    batch, latents = sampled(edit, [row(number, mask_image=None) for number in range(BATCH)])
    source = batch.source_latents
    error = float((latents - source).square().mean())
    assert 0 < error < 0.5 * float(source.var())
