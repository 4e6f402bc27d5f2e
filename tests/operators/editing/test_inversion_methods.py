"""Direct Inversion, ProxEdit and InfEdit against their papers' equations, one row at a time."""

import pytest
import torch
from method_cases import check_cost, make
from one_row import (
    SD,
    after,
    clean,
    close,
    edited,
    guided,
    inverted,
    noise,
    one_batch,
    path,
    steps_of,
)
from overpaint.operators.controls.inversion_noise import inversion_noise
from overpaint.operators.controls.proximal import Proximal
from overpaint.operators.diffusion.latent_model import load_latent_model
from overpaint.operators.diffusion.latents import draw_noise, make_generators
from overpaint.operators.diffusion.schedule import Step
from overpaint.operators.diffusion.state import StepState
from overpaint.operators.models.weights import Checkpoint

PREDICTIONS = ["epsilon", "v_prediction", "sample"]


@pytest.fixture
def model(checkpoint_of):
    return load_latent_model(Checkpoint(name=checkpoint_of(SD)))


@pytest.fixture
def predicting(model, monkeypatch):
    """Sets the quantity that the model predicts."""

    def set_type(kind):
        config = {**model.scheduler_config, "prediction_type": kind}
        monkeypatch.setattr(model, "scheduler_config", config)

    return set_type


@torch.no_grad()
def test_direct_inversion_is_the_paper_s_mixture(model, checkpoint_of, row):
    given = inverted("ddim", checkpoint_of, row(0), prompt="empty")
    line, latents = path(given), path(given)[0]
    for step in steps_of(model):
        # DDIM forward from the cleaner level, by the noise that the inversion had there.
        eps = noise(model, line[step.index + 1], step, "")
        back = clean(line[step.index + 1], eps, step_at_next(step))
        assert close(
            step.alpha_bar**0.5 * back + (1 - step.alpha_bar) ** 0.5 * eps, line[step.index]
        )
        mixed = guided(model, latents, step, "target x", 3.0)
        if step.index < 3:
            mixed = 0.5 * mixed + 0.5 * eps
        latents = after(latents, mixed, step)
    fields = {"num_stochastic_injection_steps": 0.75}
    assert close(edited("direct_inversion", checkpoint_of, given, **fields), latents)


def step_at_next(step):
    """The step's cleaner level as the level before a step."""
    return Step(step.index, step.timestep, step.alpha_bar_next, 1.0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_direct_inversion_by_the_inversion_s_noise_alone_is_the_source(
    prediction, predicting, checkpoint_of, row
):
    predicting(prediction)
    given = inverted("ddim", checkpoint_of, row(0), prompt="empty")
    made = edited("direct_inversion", checkpoint_of, given, noise_merge_lambda=1.0)
    assert close(made, path(given)[-1])


def test_direct_inversion_without_the_inversion_s_noise_is_ddim(checkpoint_of, row):
    given = inverted("ddim", checkpoint_of, row(0))
    expected = edited("ddim", checkpoint_of, given, strength=1.0)
    for off in ({"noise_merge_lambda": 0.0}, {"num_stochastic_injection_steps": 0.0}):
        assert torch.equal(edited("direct_inversion", checkpoint_of, given, **off), expected)


def test_inversion_noise_leads_from_level_to_level(checkpoint_of, row):
    given = inverted("fixed_point", checkpoint_of, row(0))
    batch = one_batch(make("direct_inversion", checkpoint_of), given)
    for step in batch.steps:
        eps = inversion_noise(batch, step)[:1]
        assert close(after(path(given)[step.index], eps, step), path(given)[step.index + 1])


@torch.no_grad()
@pytest.mark.parametrize("prox", ["l0", "l1"])
def test_proxedit_is_the_paper_s_equations(prox, model, checkpoint_of, row):
    given = inverted("ddim", checkpoint_of, row(0))
    latents = path(given)[0]
    for step in steps_of(model):
        source = noise(model, latents, step, "source a")
        delta = noise(model, latents, step, "target x") - source
        bound = delta.abs().flatten().quantile(0.6)
        if prox == "l0":
            kept = delta * (delta.abs() > bound)
        else:
            kept = torch.sign(delta) * torch.relu(delta.abs() - bound)
        latents = after(latents, source + 3.0 * kept, step)
        if step.timestep < 500:
            edit = torch.nn.functional.max_pool2d((delta.abs() > bound).float(), 5, 1, 2)
            apart = latents - path(given)[step.index + 1]
            latents = latents - 0.4 * (1 - edit) * apart
    fields = {"quantile": 0.6, "recon_t": 500, "recon_lr": 0.4, "dilate_mask": 2, "prox": prox}
    fields |= {"guidance_scale": 3.0, "cross_replace_steps": 0.0}
    assert close(edited("proxedit", checkpoint_of, given, **fields), latents)


def test_proxedit_with_the_source_s_prompt_is_the_reconstruction(checkpoint_of, row):
    given = inverted("ddim", checkpoint_of, row(0, target_prompt="source a"))
    expected = edited("ddim", checkpoint_of, given, strength=1.0, guidance_scale=1.0)
    fields = {"cross_replace_steps": 0.0, "recon_t": 0}
    assert close(edited("proxedit", checkpoint_of, given, **fields), expected)
    assert close(edited("proxedit", checkpoint_of, given, recon_t=1000), path(given)[-1])


def test_proxedit_threshold_is_the_row_s_own():
    drawn = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    drawn[1] *= 5.0
    state = StepState(
        step=Step(0, 1, 0.5, 0.6),
        latents_bchw=drawn,
        predictions={"text": drawn, "negative": torch.zeros_like(drawn)},
    )
    proximal = Proximal(inner=lambda state: state.predictions["text"], norm="l0", quantile=0.7)
    made = proximal(state)
    share = (made != 0).flatten(1).float().mean(dim=1)
    assert torch.allclose(share, torch.full((3,), 0.3), atol=0.01)
    assert torch.equal(made[made != 0], drawn[made != 0])


@pytest.mark.parametrize("fields", [{"guidance_scale": 1.0}, {"cross_replace_steps": 0.0}])
def test_proxedit_spends_what_it_states(fields, checkpoint_of, row):
    check_cost(make("proxedit", checkpoint_of, **fields), row)


INFEDIT = {"num_inference_steps": 5, "cross_replace_steps": 0.0, "self_replace_steps": 0.0}


@torch.no_grad()
@pytest.mark.parametrize("source_scale", [1.0, 1.5])
def test_infedit_is_the_paper_s_consistent_model(source_scale, model, checkpoint_of, row):
    given = row(0, mask_image=None)
    edit = make("infedit", checkpoint_of, **INFEDIT)
    z0 = one_batch(edit, given).source_latents[:1]
    draws = make_generators([given["seed"]])
    steps = steps_of(model, 5)[1:]
    unit = [draw_noise(draws, z0) for _ in steps]
    made, target = z0, steps[0].noised(z0, unit[0])
    for number, step in enumerate(steps):
        source = step.noised(z0, unit[number])
        e_source = guided(model, source, step, "source a", source_scale)
        e_target = guided(model, target, step, "target x", 7.5)
        # Algorithm 2: the consistent noise, then the target's clean latents by the difference.
        consistent = (source - step.alpha_bar**0.5 * z0) / (1 - step.alpha_bar) ** 0.5
        made = clean(target, e_target - e_source + consistent, step)
        if number + 1 < len(steps):
            target = steps[number + 1].noised(made, unit[number + 1])
    fields = {"source_guidance_scale": source_scale, **INFEDIT}
    assert close(edited("infedit", checkpoint_of, given, **fields), made)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_infedit_with_the_source_s_prompt_is_the_source(prediction, predicting, checkpoint_of, row):
    predicting(prediction)
    given = row(0, mask_image=None, target_prompt="source a")
    fields = {"guidance_scale": 1.0, "strength": 1.0}
    expected = one_batch(make("infedit", checkpoint_of, **fields), given).source_latents[:1]
    assert torch.allclose(edited("infedit", checkpoint_of, given, **fields), expected, atol=1e-4)


def test_infedit_uses_the_source_s_attention_where_it_should(checkpoint_of, row):
    given = row(0, mask_image=None)
    plain = edited("infedit", checkpoint_of, given, **INFEDIT)
    for share in ("cross_replace_steps", "self_replace_steps"):
        other = edited("infedit", checkpoint_of, given, **{**INFEDIT, share: 1.0})
        assert not torch.allclose(other, plain, atol=1e-6)


@pytest.mark.parametrize("fields", [{"source_guidance_scale": 2.0}, {"guidance_scale": 1.0}])
def test_infedit_spends_what_it_states(fields, checkpoint_of, row):
    check_cost(make("infedit", checkpoint_of, **fields), row)
