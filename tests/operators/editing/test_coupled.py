"""EDICT and negative-prompt inversion."""

import pytest
import torch
from method_cases import BATCH, check_cost, make
from overpaint.operators.controls.source_negative import slerp
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.coupled import invert_coupled
from overpaint.operators.diffusion.latent_model import load_latent_model
from overpaint.operators.diffusion.prompts import embed, embed_negative
from overpaint.operators.diffusion.schedule import make_schedule
from overpaint.operators.invert import Invert
from overpaint.operators.models.weights import Checkpoint
from papercut_rows import papercut_rows, reconstruct

SD = "StableDiffusionPipeline"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return papercut_rows(tmp_path_factory.mktemp("drawn") / "rows")


@pytest.fixture
def model(checkpoint_of):
    return load_latent_model(Checkpoint(name=checkpoint_of(SD)))


def inverted(method, checkpoint_of, row, **fields):
    operator = Invert(method=method, checkpoint=checkpoint_of(SD), batch_size=BATCH, **fields)
    return {**row, "mask_image": None, **operator.run([row], operator.load())[0]}


def edited(method, checkpoint_of, row, **fields):
    """The clean latents that a method makes of an inverted row."""
    edit = make(method, checkpoint_of, **fields)
    editors = edit.load()
    request = edit.prepare(row, editors).request
    batch = Batch([request] * BATCH, editors[""], num_inference_steps=None, walked=edit.own.walked)
    return batch.run(edit.own.branches(), edit.own.complete(edit.own.sampling(batch)))[:1]


def guided(model, prompt, negative, scale):
    """The noise by classifier-free guidance of one row, as a function of latents and timestep."""
    text, other = embed(model, [prompt]).tokens_bsd, negative

    def eps(latents, timestep):
        with torch.no_grad():
            first, second = (
                model.unet(latents.float(), timestep, encoder_hidden_states=tokens).sample
                for tokens in (text, other)
            )
        return second + scale * (first - second)

    return eps


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_edict_gives_papercut_sources_back(scale, drawn):
    inversion = {"method": "edict", "num_inference_steps": 11, "guidance_scale": scale}
    assert reconstruct(drawn, inversion, "edict", guidance_scale=scale) >= 60


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(("steps", "strength"), [(1, 1.0), (4, 1.0), (5, 1.0), (5, 0.4)])
def test_edict_undoes_its_steps(
    prediction, steps, strength, model, checkpoint_of, row, monkeypatch
):
    config = {**model.scheduler_config, "prediction_type": prediction}
    monkeypatch.setattr(model, "scheduler_config", config)
    fields = {"num_inference_steps": steps, "guidance_scale": 3.0}
    given = inverted("edict", checkpoint_of, row(0, target_prompt="source a"), **fields)
    clean = given["inverted_pair"].trajectory_schw[-1, :4]
    made = edited("edict", checkpoint_of, given, strength=strength, guidance_scale=3.0)
    assert torch.allclose(made[0], clean.float(), atol=1e-5)


@pytest.mark.parametrize("steps", [4, 5])
@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_edict_pair_is_exact_in_float64(steps, scale, model):
    """A deterministic predictor: the pair that was inverted denoises to the source to 1e-10."""
    from overpaint.operators.diffusion import coupled

    schedule = make_schedule(model.scheduler_config, steps)
    clean = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))

    def predictor(latents, step):
        return scale * torch.tanh(latents).roll(1, dims=3)

    x, y = invert_coupled(clean, schedule, predictor, 0.93)[0].chunk(2, dim=1)
    for step in schedule.steps:
        a, b = coupled._coefficients(step)
        if step.index % 2 == 0:
            x = a * x + b * predictor(y, step)
            y = a * y + b * predictor(x, step)
        else:
            y = a * y + b * predictor(x, step)
            x = a * x + b * predictor(y, step)
        x = 0.93 * x + 0.07 * y
        y = 0.93 * y + 0.07 * x
    assert (x - clean).abs().max() < 1e-10
    assert (y - clean).abs().max() < 1e-10


def test_edict_is_the_paper_s_equations(model, checkpoint_of, row):
    """Equations 14 and 15 of arXiv 2211.12446, for one row towards another prompt."""
    p = 0.93
    fields = {"num_inference_steps": 5, "guidance_scale": 3.0}
    given = inverted("edict", checkpoint_of, row(0), **fields)
    x, y = given["inverted_pair"].trajectory_schw[1][None].chunk(2, dim=1)
    eps = guided(model, "target x", embed_negative(model, "", 1).tokens_bsd, 3.0)
    for step in make_schedule(model.scheduler_config, 5).steps[1:]:
        a = (step.alpha_bar_next / step.alpha_bar) ** 0.5
        b = (1 - step.alpha_bar_next) ** 0.5 - a * (1 - step.alpha_bar) ** 0.5
        if step.index % 2 == 0:
            x = a * x + b * eps(y, step.timestep)
            y = a * y + b * eps(x, step.timestep)
        else:
            y = a * y + b * eps(x, step.timestep)
            x = a * x + b * eps(y, step.timestep)
        x = p * x + (1 - p) * y
        y = p * y + (1 - p) * x
    made = edited("edict", checkpoint_of, given, strength=0.8)
    assert torch.allclose(made, x.float(), atol=1e-4)


@pytest.mark.parametrize("scale", [3.0, 7.5])
def test_npi_with_the_source_s_prompt_is_the_unguided_reconstruction(scale, checkpoint_of, row):
    given = inverted("ddim", checkpoint_of, row(0, target_prompt="source a"))
    expected = edited("ddim", checkpoint_of, given, strength=1.0, guidance_scale=1.0)
    fields = {"guidance_scale": scale, "cross_replace_steps": 0.0}
    made = edited("negative_prompt_inversion", checkpoint_of, given, **fields)
    assert torch.allclose(made, expected, atol=1e-4)


@pytest.mark.parametrize("npi_interp", [0.0, 0.4, 1.0])
def test_npi_is_guidance_from_the_source_s_prompt(npi_interp, model, checkpoint_of, row):
    """Equation 11 of arXiv 2305.16807 without Prompt-to-Prompt, with the code's interpolation."""
    given = inverted("ddim", checkpoint_of, row(0), num_inference_steps=4)
    source = embed(model, ["source a"]).tokens_bsd
    empty = embed_negative(model, "", 1).tokens_bsd
    one, other = source.flatten(), empty.flatten()
    omega = torch.acos(torch.dot(one / one.norm(), other / other.norm()))
    weights = torch.sin((1 - npi_interp) * omega), torch.sin(npi_interp * omega)
    negative = (weights[0] * source + weights[1] * empty) / torch.sin(omega)
    eps = guided(model, "target x", negative, 5.0)
    latents = given["inverted_path"].trajectory_schw[1][None]
    for step in make_schedule(model.scheduler_config, 4).steps[1:]:
        noise = eps(latents, step.timestep)
        x0 = (latents - (1 - step.alpha_bar) ** 0.5 * noise) / step.alpha_bar**0.5
        latents = step.alpha_bar_next**0.5 * x0 + (1 - step.alpha_bar_next) ** 0.5 * noise
    fields = {"guidance_scale": 5.0, "strength": 0.75, "npi_interp": npi_interp}
    made = edited(
        "negative_prompt_inversion", checkpoint_of, given, cross_replace_steps=0.0, **fields
    )
    assert torch.allclose(made, latents, atol=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_npi_spends_what_it_states(share, checkpoint_of, row):
    fields = {"cross_replace_steps": share, "npi_interp": 0.3}
    check_cost(make("negative_prompt_inversion", checkpoint_of, **fields), row)


def test_npi_beats_guidance_against_the_empty_prompt_on_papercut(drawn):
    inversion = {"method": "ddim", "num_inference_steps": 10}
    fields = {"guidance_scale": 7.5, "cross_replace_steps": 0.0}
    plain = reconstruct(drawn, inversion, "prompt_to_prompt", **fields)
    assert reconstruct(drawn, inversion, "negative_prompt_inversion", **fields) > plain + 5


def test_slerp_of_rows_without_an_arc_is_linear():
    start = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    end = torch.tensor([[0.0, 1.0], [4.0, 0.0], [2.0, 2.0]])
    expected = torch.tensor([[0.5**0.5, 0.5**0.5], [3.0, 0.0], [1.0, 1.0]])
    assert torch.allclose(slerp(start, end, 0.5), expected)
