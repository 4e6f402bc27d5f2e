"""DDRM, DPS, MCG, CoPaint and ILVR against their papers' equations, and what each is to keep."""

import pytest
import torch
from method_batches import batch_of, clean, guided, latents_of, prompts_of
from method_cases import make
from overpaint.operators.methods import METHODS

SCALE = 3.0
GRADIENTS = {"dps": {"scale": 0.5}, "mcg": {"scale": 1.0}, "copaint": {"lr_xt": 0.1}}


def one(method, checkpoint_of, row, **fields):
    """An edit with guidance, and the batch of a row whose mask is not dilated."""
    pipeline = METHODS.find(method).checkpoints[0]
    fields = {"guidance_scale": SCALE, "mask_dilate_px": 0, **fields}
    edit = make(f"{method}-{pipeline}", checkpoint_of, batch_size=1, **fields)
    return edit, batch_of(edit, [row(1)])


def noise_of(batch):
    """A function that draws what the row's own generator draws, one after another."""
    generator = torch.Generator().manual_seed(batch.requests[0].seed)
    return lambda: torch.randn(batch.source_latents.shape, generator=generator)


def levels_of(batch):
    """The steps with their levels before and after, of which the last is clean."""
    steps = batch.schedule.steps
    after = [*(step.alpha_bar for step in steps[1:]), 1.0]
    return [(step, step.alpha_bar, level) for step, level in zip(steps, after, strict=True)]


def estimator(batch):
    """A function from noisy latents to the guided clean estimate and noise."""
    prompts = prompts_of(batch)

    def estimate(x, step):
        eps = guided(batch.predict(x, step, prompts), SCALE)
        return clean(x, eps, step.alpha_bar), eps

    return estimate


def mean_of_ddpm(x, x0, before, after):
    """The mean of the posterior, equation 7 of arXiv 2006.11239, and its variance."""
    beta = 1 - before / after
    mean = after**0.5 * beta / (1 - before) * x0
    mean = mean + (before / after) ** 0.5 * (1 - after) / (1 - before) * x
    return mean, (1 - after) / (1 - before) * beta


@pytest.mark.parametrize("sigma_0", [0.0, 1.5])
@pytest.mark.parametrize("eta_b", [1.0, 0.7])
def test_ddrm_is_its_papers_equations(sigma_0, eta_b, checkpoint_of, row):
    edit, batch = one("ddrm", checkpoint_of, row, sigma_0=sigma_0, eta_b=eta_b)
    draw, estimate, eta = noise_of(batch), estimator(batch), 0.85
    y, known = batch.source_latents, (batch.mask_b1hw == 0).expand_as(batch.source_latents)

    def sigma_of(level):
        return ((1 - level) / level) ** 0.5

    first = sigma_of(batch.schedule.steps[0].alpha_bar)
    z = draw()
    # In the paper's terms x is not scaled: x_t = x_0 + sigma_t * noise.
    x = torch.where(known, y + max(first**2 - sigma_0**2, 0) ** 0.5 * z, first * z)
    seen = set()
    for step, before, after in levels_of(batch):
        sigma, last = sigma_of(after), sigma_of(before)
        x0, _ = estimate(before**0.5 * x, step)
        z = draw()
        unknown = x0 + (1 - eta**2) ** 0.5 * sigma * (x - x0) / last + eta * sigma * z
        seen.add(sigma >= sigma_0)
        if sigma >= sigma_0:
            mean = (1 - eta_b) * x0 + eta_b * y
            spread = max(sigma**2 - sigma_0**2 * eta_b**2, 0) ** 0.5
        else:
            mean = x0 + (1 - eta**2) ** 0.5 * sigma * (y - x0) / sigma_0
            spread = eta * sigma
        x = torch.where(known, mean + spread * z, unknown)
    assert seen == ({True} if sigma_0 == 0 else {True, False})
    assert torch.allclose(edit.settings.filled(batch), x, atol=1e-4)


@pytest.mark.parametrize(("method", "project"), [("dps", False), ("mcg", True)])
def test_dps_is_its_papers_algorithm(method, project, checkpoint_of, row):
    edit, batch = one(method, checkpoint_of, row, scale=0.8)
    draw, estimate = noise_of(batch), estimator(batch)
    y, unknown = batch.source_latents, batch.mask_b1hw
    x = draw()
    for step, before, after in levels_of(batch):
        x = x.detach().requires_grad_()
        x0, _ = estimate(x, step)
        norm = torch.linalg.vector_norm((1 - unknown) * (y - x0))
        (gradient,) = torch.autograd.grad(norm, x)
        mean, variance = mean_of_ddpm(x, x0, before, after)
        x = (mean + variance**0.5 * draw()).detach() - 0.8 * gradient
        if project:
            noised = after**0.5 * y + (1 - after) ** 0.5 * draw()
            x = unknown * x + (1 - unknown) * noised
    assert edit.settings.project == project
    assert torch.allclose(edit.settings.filled(batch), x, atol=1e-4)


@pytest.mark.parametrize("lr_xt", [0.02, 30.0])
def test_copaint_is_its_papers_algorithm(lr_xt, checkpoint_of, row):
    fields = {"num_iteration_optimize_xt": 3, "coef_xt_reg": 0.01, "lr_xt": lr_xt}
    edit, batch = one("copaint", checkpoint_of, row, **fields)
    estimate, x = estimator(batch), batch.noise
    y, unknown = batch.source_latents, batch.mask_b1hw
    taken = []
    for number, (step, before, after) in enumerate(levels_of(batch)):
        anchor = x
        rate = lr_xt * before**0.5 * 1.012**number

        def loss(x, step=step, anchor=anchor):
            x0, _ = estimate(x, step)
            distance = ((x - anchor) ** 2).sum()
            return (((1 - unknown) * (y - x0)) ** 2).sum() + 0.01 * distance

        for _ in range(3):
            at = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(at), at)
            tried = x - rate * gradient
            taken.append(bool(loss(tried) <= loss(x)))
            if taken[-1]:
                x = tried
            else:
                rate /= 2
        x0, eps = estimate(x, step)
        x = after**0.5 * x0 + (1 - after) ** 0.5 * eps
    # With a large rate some steps would raise the loss; they are not taken.
    assert all(taken) == (lr_xt == 0.02)
    assert torch.allclose(edit.settings.filled(batch), x, atol=1e-4)


def low(x, side):
    """Latents scaled down to a side and up again."""
    options = {"mode": "bicubic", "antialias": True}
    down = torch.nn.functional.interpolate(x, (side, side), **options)
    return torch.nn.functional.interpolate(down, x.shape[2:], **options)


@pytest.mark.parametrize(("down_n", "side"), [(8, 4), (2, 16)])
def test_ilvr_is_its_papers_algorithm(down_n, side, checkpoint_of, row):
    edit, batch = one("ilvr", checkpoint_of, lambda n: row(n, mask_image=None), down_N=down_n)
    edit = edit.model_copy(update={"settings": edit.own.model_copy(update={"range_t": 2})})
    draw, estimate, y = noise_of(batch), estimator(batch), batch.source_latents
    x = draw()
    levels = levels_of(batch)
    levels[-1] = (*levels[-1][:2], batch.schedule.steps[-1].alpha_bar_next)
    for number, (step, before, after) in enumerate(levels):
        x0, _ = estimate(x, step)
        mean, variance = mean_of_ddpm(x, x0, before, after)
        x = mean + variance**0.5 * draw()
        if number < len(levels) - 2:  # t > range_t, counted from the clean end
            noised = after**0.5 * y + (1 - after) ** 0.5 * draw()
            x = x + low(noised, side) - low(x, side)
    assert torch.allclose(latents_of(edit, batch), x, atol=1e-4)


def test_ilvr_with_every_frequency_returns_the_source(checkpoint_of, row):
    keeping = {"down_N": 2.0, "range_t": 0}
    edit, batch = one("ilvr", checkpoint_of, lambda n: row(n, mask_image=None), **keeping)
    level = batch.schedule.steps[-1].alpha_bar_next
    noise = (latents_of(edit, batch) - level**0.5 * batch.source_latents) / (1 - level) ** 0.5
    assert noise.std() == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("method", ["ddrm", "mcg"])
def test_known_latents_are_the_sources_in_the_end(method, checkpoint_of, row):
    edit, batch = one(method, checkpoint_of, row)
    latents = edit.settings.filled(batch)
    known = (batch.mask_b1hw == 0).expand_as(latents)
    assert torch.allclose(latents[known], batch.source_latents[known], atol=1e-5)
    assert not torch.allclose(latents[~known], batch.source_latents[~known], atol=1e-2)


@pytest.mark.parametrize(("method", "fields"), GRADIENTS.items())
def test_descent_brings_the_known_part_nearer_to_the_source(method, fields, checkpoint_of, row):
    def distance(**fields):
        edit, batch = one(method, checkpoint_of, row, **fields)
        latents = edit.settings.filled(batch)
        return float((((1 - batch.mask_b1hw) * (latents - batch.source_latents)) ** 2).sum())

    still = {"copaint": {"num_iteration_optimize_xt": 0}}.get(method, {"scale": 0.0})
    project = {} if method == "copaint" else {"project": False}
    assert distance(**fields, **project) < distance(**still, **project)


@pytest.mark.parametrize(("method", "fields"), GRADIENTS.items())
def test_gradients_are_finite_where_nothing_is_known(method, fields, checkpoint_of, row):
    import io

    from PIL import Image

    everywhere = io.BytesIO()
    Image.new("L", (32, 32), 255).save(everywhere, "PNG")
    edit, batch = one(
        method, checkpoint_of, lambda n: row(n, mask_image=everywhere.getvalue()), **fields
    )
    assert bool(torch.isfinite(edit.settings.filled(batch)).all())
