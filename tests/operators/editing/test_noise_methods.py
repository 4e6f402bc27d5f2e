"""Methods that noise the source: strokes, a brush, and a disturbed negative prediction."""

from types import SimpleNamespace

import pytest
import torch
from method_batches import batch_of, clean, guided, latents_of, prompts_of
from method_cases import BATCH, STEPS, make, ready
from overpaint.operators.controls.brush import feathered
from overpaint.operators.controls.disturbance import Disturbed
from overpaint.operators.diffusion.latents import draw_noise, make_generators
from overpaint.operators.diffusion.schedule import Step
from overpaint.operators.diffusion.state import StepState
from overpaint.operators.diffusion.step_noise import ddim_sigma
from overpaint.pipeline.conditions import STROKES


def ddim(x, eps, step):
    level = step.alpha_bar_next
    return level**0.5 * clean(x, eps, step.alpha_bar) + (1 - level) ** 0.5 * eps


def test_sdedit_strokes_is_the_papers_algorithm(checkpoint_of, row):
    """Algorithm 2 of arXiv 2108.01073, two times, with its noise in DDPM's steps."""
    edit = make("sdedit_strokes", checkpoint_of, sample_step=2, guidance_scale=3.0)
    rows = [row(number) for number in range(BATCH)]
    batch = batch_of(edit, rows)
    prompts = prompts_of(batch)
    x = batch.encode([request.values[STROKES.name] for request in batch.requests])
    generators = make_generators([each["seed"] for each in rows])
    first = None
    for _ in range(2):
        noise = draw_noise(generators, x)
        first = noise if first is None else first
        x = batch.steps[0].noised(x, noise)
        for step in batch.steps:
            eps = guided(batch.predict(x, step, prompts), 3.0)
            sigma, level = ddim_sigma(step, 1.0), step.alpha_bar_next
            mean = clean(x, eps, step.alpha_bar) * level**0.5
            x = mean + (1 - level - sigma**2) ** 0.5 * eps + sigma * draw_noise(generators, x)
            known = level**0.5 * batch.source_latents + (1 - level) ** 0.5 * first
            x = known + batch.mask_b1hw * (x - known)
    assert torch.allclose(edit.settings.edited(batch_of(edit, rows)), x, atol=1e-4)


def test_sdedit_strokes_of_the_source_are_sdedit(checkpoint_of, row):
    fields = {"strength": 0.5, "eta": 0.0, "guidance_scale": 3.0}
    strokes = make("sdedit_strokes", checkpoint_of, sample_step=1, **fields)
    sdedit = make("sdedit", checkpoint_of, **fields)
    rows = [row(0) | {"strokes_image": row(0)["source_image"]}] * BATCH
    made, expected = (each.run(rows, each.load())[0] for each in (strokes, sdedit))
    assert made["edited_image"] == expected["edited_image"]


def brush(checkpoint_of, row, **fields):
    """A brush's edit, and batches of rows on inverted paths."""
    edit = make("diffusion_brush", checkpoint_of, **fields)
    return edit, batch_of(edit, ready(edit, [row(number) for number in range(BATCH)]))


def test_brush_without_new_noise_gives_the_source_back(checkpoint_of, row):
    def of_source(number):
        return row(number) | {"target_prompt": row(number)["source_prompt"]}

    edit, batch = brush(checkpoint_of, of_source, noise_share=0.0, guidance_scale=1.0)
    # The path is not exact on its own: what the mask keeps of it is.
    path, x = batch.trajectory_sbchw, batch.trajectory_sbchw[batch.steps[0].index]
    assert torch.allclose(edit.settings.sampling(batch).start_bchw, x, atol=1e-5)
    outside = (edit.settings.sampling(batch).hooks[0].mask_b1hw == 0).expand_as(x)
    assert outside.any()
    assert torch.equal(latents_of(edit, batch)[outside], path[-1][outside])


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_brush_mixes_noise_of_the_paths_own_spread(share, checkpoint_of, row):
    """Clean part and noise of a path's level, of which the brush draws a share anew."""
    edit, batch = brush(checkpoint_of, row, noise_share=share, brush_feather=0.0, strength=0.5)
    path, step = batch.trajectory_sbchw, batch.steps[0]
    here, after = path[step.index].double(), path[step.index + 1].double()
    a, b = step.alpha_bar, step.alpha_bar_next
    ratio = ((1 - a) / a) ** 0.5 - ((1 - b) / b) ** 0.5
    u = (here / a**0.5 - after / b**0.5) / ratio
    x0 = clean(here, u, a)
    new = draw_noise(make_generators([request.seed for request in batch.requests]), path[0])
    mixed = a**0.5 * x0 + (1 - a) ** 0.5 * ((1 - share) ** 0.5 * u + share**0.5 * new)
    start = here + batch.mask_b1hw * (mixed - here)
    x = start.float()
    for step in batch.steps:
        x = ddim(x, guided(batch.predict(x, step, prompts_of(batch)), 7.5), step)
        x = path[step.index + 1] + batch.mask_b1hw * (x - path[step.index + 1])
    assert torch.allclose(latents_of(edit, batch), x, atol=1e-4)


def test_brush_feather_blurs_edges_and_keeps_flat_masks():
    flat = torch.ones(1, 1, 16, 12)
    assert torch.allclose(feathered(flat, 0.1), flat)
    edge = torch.zeros(1, 1, 16, 12)
    edge[..., 6:] = 1.0
    line = feathered(edge, 0.1)[0, 0, 8]
    assert line.diff().min() >= 0
    assert 0.1 < line[5] < 0.5 < line[6] < 0.9
    assert torch.allclose(line + line.flip(0), torch.ones(12), atol=1e-5)


@pytest.mark.parametrize(("disturbance", "lag"), [("rollback", 2), ("rollback", 0), ("image", 0)])
def test_cartoon_predicts_the_negative_at_other_latents(disturbance, lag, checkpoint_of, row):
    """Algorithms 1 and 2 of arXiv 2305.06710."""
    fields = {"disturbance": disturbance, "rollback": lag / STEPS, "strength": 0.75}
    edit = make("null_text_cartoon", checkpoint_of, guidance_scale=3.0, **fields)
    batch = batch_of(edit, [row(number, mask_image=None) for number in range(BATCH)])
    prompts, z = prompts_of(batch), batch.source_latents
    every = [step.noised(z, batch.noise) for step in batch.schedule.steps[:2]]
    for step in batch.steps:
        x = every[step.index]
        y = z if disturbance == "image" else every[max(step.index - lag, 0)]
        text = batch.predict(x, step, {"text": prompts["text"]})["text"]
        null = batch.predict(y, step, {"negative": prompts["negative"]})["negative"]
        every.append(ddim(x, null + 3.0 * (text - null), step))
    assert torch.allclose(latents_of(edit, batch), every[-1], atol=1e-4)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_disturbed_guidance_mixes_noise_whatever_a_model_predicts(kind):
    """A prediction at other latents means its noise, not its velocity or clean latents."""
    from overpaint.operators.diffusion.sampling import to_x0_and_eps

    def eps(latents, step, prediction):
        return to_x0_and_eps(prediction, latents, step.alpha_bar, kind)[1]

    generator = torch.Generator().manual_seed(0)
    z, y, text, null = torch.randn(4, 2, 4, 8, 8, generator=generator)
    step = Step(0, 500, 0.4, 0.6)
    batch = SimpleNamespace(eps=eps, schedule=SimpleNamespace(prediction_type=kind))
    guidance = Disturbed(batch=batch, guidance_scale=3.0, negative_at=lambda step: y)
    state = StepState(step=step, latents_bchw=z, predictions={"text": text, "negative": null})
    other = eps(y, step, null)
    expected = other + 3.0 * (eps(z, step, text) - other)
    assert torch.allclose(eps(z, step, guidance(state)), expected, atol=1e-4)
