"""DDNM and RePaint against their papers' equations, and the jumps against the official code."""

from itertools import pairwise

import pytest
import torch
from method_batches import batch_of, clean, guided, prompts_of
from method_cases import BATCH, STEPS, make
from overpaint.operators.controls.resampling import resampled
from overpaint.operators.methods import METHODS

SCALE = 3.0
TRAVEL = {"travel_length": 2, "travel_repeat": 2}
JUMPS = {"jump_length": 2, "jump_n_sample": 3}


def get_schedule_jump(t_T, jump_length, jump_n_sample):  # noqa: N803
    """RePaint's official schedule: times from T - 1 to -1, as in its guided_diffusion/scheduler."""
    jumps = {}
    for j in range(0, t_T - jump_length, jump_length):
        jumps[j] = jump_n_sample - 1
    t = t_T
    ts = []
    while t >= 1:
        t = t - 1
        ts.append(t)
        if jumps.get(t, 0) > 0:
            jumps[t] = jumps[t] - 1
            for _ in range(jump_length):
                t = t + 1
                ts.append(t)
    ts.append(-1)
    return ts


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 20, 250])
@pytest.mark.parametrize(("length", "visits"), [(1, 1), (1, 3), (2, 2), (3, 4), (10, 10), (30, 2)])
def test_moves_are_those_of_the_official_code(num_steps, length, visits):
    times = get_schedule_jump(num_steps, length, visits)
    expected = [
        (num_steps - 1 - max(before, after), after > before) for before, after in pairwise(times)
    ]
    assert list(resampled(num_steps, length, visits)) == expected


def noises(batch, row):
    generator = torch.Generator().manual_seed(batch.requests[row].seed)
    while True:
        yield torch.randn(batch.source_latents.shape[1:], generator=generator)


def walked(batch, length, visits, step_of):
    """A run of a paper: `step_of` takes z, mask, clean estimate, noise, levels and draws."""
    draws = [noises(batch, row) for row in range(BATCH)]

    def draw():
        return torch.stack([next(each) for each in draws])

    prompts = prompts_of(batch)
    steps = batch.schedule.steps[::-1]  # by time: 0 is the cleanest
    level = {t: step.alpha_bar for t, step in enumerate(steps)} | {-1: 1.0}
    times = get_schedule_jump(len(steps), length, visits)
    x = draw()
    for before, after in pairwise(times):
        if after > before:
            kept = level[after] / level[before]
            x = kept**0.5 * x + (1 - kept) ** 0.5 * draw()
            continue
        eps = guided(batch.predict(x, steps[before], prompts), SCALE)
        x0 = clean(x, eps, level[before])
        x = step_of(x, x0, eps, level[before], level[after], draw)
    return x


@pytest.mark.parametrize("pipeline", METHODS.find("ddnm").checkpoints)
@pytest.mark.parametrize("travel", [{}, TRAVEL])
def test_ddnm_is_its_papers_algorithm(pipeline, travel, checkpoint_of, row):
    edit = make(f"ddnm-{pipeline}", checkpoint_of, guidance_scale=SCALE, eta=0.85, **travel)
    batch = batch_of(edit, [row(number) for number in range(BATCH)])
    z, unknown = batch.source_latents, batch.mask_b1hw

    def step_of(x, x0, eps, before, after, draw):
        x0 = (1 - unknown) * z + unknown * x0  # A^+ y + (I - A^+ A) x0
        c1, c2 = (1 - after) ** 0.5 * 0.85, (1 - after) ** 0.5 * (1 - 0.85**2) ** 0.5
        return after**0.5 * x0 + c1 * draw() + c2 * eps

    expected = walked(batch, *edit.settings.jumps, step_of)
    assert torch.allclose(edit.settings.filled(batch), expected, atol=1e-4)


@pytest.mark.parametrize("pipeline", METHODS.find("repaint").checkpoints)
def test_repaint_is_its_papers_algorithm(pipeline, checkpoint_of, row):
    edit = make(f"repaint-{pipeline}", checkpoint_of, guidance_scale=SCALE, **JUMPS)
    batch = batch_of(edit, [row(number) for number in range(BATCH)])
    z, unknown = batch.source_latents, batch.mask_b1hw

    def step_of(x, x0, eps, before, after, draw):
        # The posterior of DDPM, equation 7 of arXiv 2006.11239.
        beta = 1 - before / after
        mean = after**0.5 * beta / (1 - before) * x0
        mean = mean + (before / after) ** 0.5 * (1 - after) / (1 - before) * x
        sampled = mean + ((1 - after) / (1 - before) * beta) ** 0.5 * draw()
        known = after**0.5 * z + (1 - after) ** 0.5 * draw()
        return unknown * sampled + (1 - unknown) * known

    expected = walked(batch, *edit.settings.jumps, step_of)
    assert torch.allclose(edit.settings.filled(batch), expected, atol=1e-4)


@pytest.mark.parametrize(("method", "jumps"), [("ddnm", TRAVEL), ("repaint", JUMPS)])
def test_known_latents_are_the_sources_in_the_end(method, jumps, checkpoint_of, row):
    edit = make(method, checkpoint_of, mask_dilate_px=0, **jumps)
    batch = batch_of(edit, [row(number) for number in range(BATCH)])
    latents, known = edit.settings.filled(batch), batch.mask_b1hw == 0
    known = known.expand_as(latents)
    assert torch.equal(latents[known], batch.source_latents[known])
    assert not torch.allclose(latents[~known], batch.source_latents[~known], atol=1e-2)


@pytest.mark.parametrize(("method", "jumps"), [("ddnm", TRAVEL), ("repaint", JUMPS)])
def test_jumps_are_counted(method, jumps, checkpoint_of, row):
    edit = make(method, checkpoint_of, guidance_scale=1.0, **jumps)
    times = get_schedule_jump(STEPS, *jumps.values())
    asked = sum(after < before for before, after in pairwise(times))
    assert asked > STEPS
    assert edit.cost(row(0), {}).forward == asked
    model = edit.load()
    before = model[""].spent.forward
    edit.run([row(number) for number in range(BATCH)], model)
    assert model[""].spent.forward - before == BATCH * asked


def test_default_cost_of_repaint_is_that_of_its_paper():
    repaint = METHODS.find("repaint")(guidance_scale=1.0)
    assert repaint.cost(250).forward == 250 + 24 * 9 * 10


def test_fill_goes_by_the_prediction_type_of_its_checkpoint(checkpoint_of, row, monkeypatch):
    edit = make("ddnm", checkpoint_of, mask_dilate_px=0)
    batch = batch_of(edit, [row(number) for number in range(BATCH)])
    as_noise = edit.settings.filled(batch)
    monkeypatch.setattr(
        batch.model,
        "scheduler_config",
        {**batch.model.scheduler_config, "prediction_type": "v_prediction"},
    )
    batch = batch_of(edit, [row(number) for number in range(BATCH)])
    assert batch.schedule.prediction_type == "v_prediction"
    as_v = edit.settings.filled(batch)
    known = (batch.mask_b1hw == 0).expand_as(as_v)
    assert torch.equal(as_v[known], batch.source_latents[known])
    assert not torch.allclose(as_v, as_noise, atol=1e-2)
