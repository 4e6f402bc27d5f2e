"""Inversions that give their source back: residuals and solvers."""

from functools import partial

import pytest
import torch
from method_cases import BATCH, STEPS, make, ready
from overpaint.operators.diffusion.fixed_point import anderson, averaged, plain
from overpaint.operators.diffusion.latent_model import load_latent_model
from overpaint.operators.diffusion.prompts import embed, embed_negative
from overpaint.operators.diffusion.schedule import make_schedule
from overpaint.operators.invert import Invert
from overpaint.operators.models.weights import Checkpoint
from papercut_rows import papercut_rows, reconstruct

SD = "StableDiffusionPipeline"
RESIDUALS = ["edit_friendly", "cycle_diffusion"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return papercut_rows(tmp_path_factory.mktemp("drawn") / "rows")


@pytest.fixture
def model(checkpoint_of):
    return load_latent_model(Checkpoint(name=checkpoint_of(SD)))


def invert(method, checkpoint_of, rows, **fields):
    fields = {"num_inference_steps": STEPS, "batch_size": BATCH, **fields}
    operator = Invert(method=method, checkpoint=checkpoint_of(SD), **fields)
    return operator.run(rows, operator.load())


def guided_eps(model, latents, timestep, prompt, scale):
    """Noise by classifier-free guidance, for one row: a UNet's call for each prompt."""

    def predict(tokens):
        with torch.no_grad():
            return model.unet(latents, timestep, encoder_hidden_states=tokens).sample

    text = predict(embed(model, [prompt]).tokens_bsd)
    negative = predict(embed_negative(model, "", 1).tokens_bsd)
    return negative + scale * (text - negative)


@pytest.mark.parametrize("method", RESIDUALS)
def test_residuals_give_papercut_sources_back(method, drawn):
    inversion = {"method": method, "num_inference_steps": 10}
    for scale in (1.0, 3.5):
        fields = {**inversion, "guidance_scale": scale}
        assert reconstruct(drawn, fields, method, guidance_scale=scale) >= 60


def test_edit_friendly_is_the_paper_s_equations(model, checkpoint_of, row):
    """Equations 5 and 6 of arXiv 2304.06140 at eta 1, and the edit by the same noise maps."""
    fields = {"guidance_scale": 3.5}
    (answer,) = invert("edit_friendly", checkpoint_of, [row(0)], **fields)
    kept = answer["inverted_residuals"]
    path = kept.trajectory_schw
    schedule = make_schedule(model.scheduler_config, STEPS)
    maps = []
    for step in schedule.steps:
        a, b = step.alpha_bar, step.alpha_bar_next
        eps = guided_eps(model, path[step.index][None], step.timestep, "source a", 3.5)[0]
        x0 = (path[step.index] - (1 - a) ** 0.5 * eps) / a**0.5
        sigma = ((1 - b) / (1 - a) * (1 - a / b)) ** 0.5
        mean = b**0.5 * x0 + (1 - b - sigma**2) ** 0.5 * eps
        maps.append((path[step.index + 1] - mean) / sigma)
        assert torch.allclose(kept.residuals_schw[step.index], sigma * maps[-1], atol=1e-4)
    (given,) = ready(make("edit_friendly", checkpoint_of), [row(0)], **fields)
    given["inverted_residuals"] = kept
    latents = path[1][None]
    for step in schedule.steps[1:]:
        a, b = step.alpha_bar, step.alpha_bar_next
        eps = guided_eps(model, latents, step.timestep, "target x", 5.0)
        x0 = (latents - (1 - a) ** 0.5 * eps) / a**0.5
        sigma = ((1 - b) / (1 - a) * (1 - a / b)) ** 0.5
        latents = b**0.5 * x0 + (1 - b - sigma**2) ** 0.5 * eps + sigma * maps[step.index]
    fields = {"strength": 0.75, "guidance_scale": 5.0}
    assert torch.allclose(
        edited(checkpoint_of, "edit_friendly", given, **fields), latents, atol=1e-4
    )


def edited(checkpoint_of, method, row, **fields):
    """The clean latents that a method makes of one inverted row without a mask."""
    from overpaint.operators.diffusion.batch import Batch

    edit = make(method, checkpoint_of, **fields)
    editors = edit.load()
    request = edit.prepare({**row, "mask_image": None}, editors).request
    method = edit.own
    # A full batch, as every stage has: sums may depend on its size.
    batch = Batch([request] * BATCH, editors[""], num_inference_steps=None, walked=method.walked)
    return batch.run(method.branches(), method.complete(method.sampling(batch)))[:1]


def test_edit_friendly_levels_are_noised_independently(checkpoint_of, row):
    (answer,) = invert("edit_friendly", checkpoint_of, [row(0)])
    kept = answer["inverted_residuals"]
    clean, levels = kept.trajectory_schw[-1], []
    for step in make_schedule(load(checkpoint_of).scheduler_config, STEPS).steps:
        signal, spread = step.alpha_bar**0.5, (1 - step.alpha_bar) ** 0.5
        levels.append(((kept.trajectory_schw[step.index] - signal * clean) / spread).flatten())
    correlations = torch.corrcoef(torch.stack(levels)) - torch.eye(STEPS)
    assert correlations.abs().max() < 0.15
    assert all(abs(float(level.std()) - 1) < 0.1 for level in levels)


def load(checkpoint_of):
    return load_latent_model(Checkpoint(name=checkpoint_of(SD)))


@pytest.mark.parametrize("eta", [0.1, 1.0])
def test_cycle_diffusion_is_diffusers_own(eta, model, checkpoint_of, row):
    """Chain and noise by the functions of diffusers' own pipeline, which needs eta above 0."""
    from diffusers import DDIMScheduler
    from diffusers.pipelines.deprecated.stable_diffusion_variants import pipeline_cycle_diffusion
    from overpaint.operators.diffusion.step_noise import ddim_sigma

    scheduler = DDIMScheduler.from_config(model.scheduler_config, clip_sample=False)
    scheduler.set_timesteps(STEPS)
    (answer,) = invert("cycle_diffusion", checkpoint_of, [row(0)], eta=eta)
    kept = answer["inverted_residuals"]
    path = kept.trajectory_schw[:, None]
    seed = Invert(method="cycle_diffusion").inversion.noise_seed(*seen(row(0)))
    generator = torch.Generator().manual_seed(seed)
    torch.randn(path.shape[1:], generator=generator)
    steps = make_schedule(model.scheduler_config, STEPS).steps
    for step, timestep in zip(steps, scheduler.timesteps, strict=True):
        here, after = path[step.index], path[step.index + 1]
        drawn = pipeline_cycle_diffusion.posterior_sample(
            scheduler, here, timestep, path[-1], generator, eta
        )
        assert torch.allclose(after, drawn, atol=1e-4)
        eps = guided_eps(model, here, step.timestep, "source a", 1.0)
        noise = pipeline_cycle_diffusion.compute_noise(scheduler, after, here, timestep, eps, eta)
        residual = kept.residuals_schw[step.index]
        assert torch.allclose(residual, ddim_sigma(step, eta) * noise[0], atol=1e-4)


def seen(row):
    from overpaint.pipeline.images import decode

    return decode(row["source_image"]).rgb, row


@pytest.mark.parametrize("method", RESIDUALS)
def test_residuals_are_one_for_all_edits_of_a_picture(method, checkpoint_of, row):
    """Rows with other seeds and prompts share an inversion; candidates may have their own."""
    shared = Invert(method=method)
    assert {"seed", "candidate"}.isdisjoint(column.name for column in shared.inputs)
    rows = [row(0, candidate=number, seed=number) for number in range(3)]
    first, second, _ = invert(method, checkpoint_of, rows)
    assert torch.equal(noise(first), noise(second))
    first, second, _ = invert(method, checkpoint_of, rows, noise="candidate")
    assert not torch.equal(noise(first), noise(second))
    (other,) = invert(method, checkpoint_of, rows[:1], seed=1)
    assert not torch.equal(noise(other), noise(first))


def noise(answer):
    return answer["inverted_residuals"].trajectory_schw[0]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("method", RESIDUALS)
def test_residuals_are_exact_whatever_the_model_predicts(
    method, prediction, checkpoint_of, row, monkeypatch
):
    config = {**load(checkpoint_of).scheduler_config, "prediction_type": prediction}
    monkeypatch.setattr(load(checkpoint_of), "scheduler_config", config)
    (answer,) = invert(method, checkpoint_of, [row(0)], guidance_scale=2.0)
    given = {**row(0, target_prompt="source a"), **answer}
    made = edited(checkpoint_of, method, given, strength=1.0, guidance_scale=2.0)
    assert torch.allclose(made, answer["inverted_residuals"].trajectory_schw[-1:], atol=1e-6)


def test_anderson_gives_papercut_sources_back_better_than_plain_iterations(drawn):
    inversion = {"method": "fixed_point", "num_inference_steps": 25}
    db = {
        solver: reconstruct(
            drawn,
            {**inversion, "solver": solver, "num_fixed_point_iterations": 2},
            "ddim",
            guidance_scale=1.0,
        )
        for solver in ("plain", "averaged", "anderson")
    }
    print(db)
    assert db["anderson"] >= 50
    assert db["anderson"] > max(db["plain"], db["averaged"])


def linear(row_matrices):
    """A map x -> m x + 1 for each row: contracting, with a known fixed point."""
    return lambda x: (row_matrices @ x[..., None])[..., 0] + 1.0


@pytest.fixture
def matrices():
    drawn = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return 0.7 * drawn / torch.linalg.matrix_norm(drawn, 2)[:, None, None]


def test_solvers_find_the_fixed_point(matrices):
    exact = torch.linalg.solve(torch.eye(4) - matrices, torch.ones(3, 4, 1).double())[..., 0]
    start = torch.zeros(3, 4, dtype=torch.float64)
    for solve in (plain, averaged, partial(anderson, window=3)):
        found = solve(linear(matrices), start, iterations=80)
        assert torch.allclose(found, exact, atol=1e-6)
    # In four dimensions five iterates span the whole space.
    near = anderson(linear(matrices), start, iterations=6, window=5)
    assert (near - exact).abs().max() < 0.1 * (
        plain(linear(matrices), start, 6) - exact
    ).abs().max()


def test_anderson_weights_are_the_row_s_own(matrices):
    start = torch.zeros(3, 4, dtype=torch.float64)
    together = anderson(linear(matrices), start, iterations=3, window=3)
    for row in range(3):
        alone = anderson(linear(matrices[row : row + 1]), start[:1], iterations=3, window=3)
        assert torch.allclose(together[row], alone[0], atol=1e-12)
    broken = matrices.clone()
    broken[1] = float("nan")
    assert torch.equal(anderson(linear(broken), start, 3, 3)[[0, 2]], together[[0, 2]])
    still = torch.ones(1, 4, dtype=torch.float64)
    assert torch.equal(anderson(lambda x: x, still, iterations=3, window=3), still)


def test_anderson_inversion_of_a_row_depends_on_nothing_but_itself(checkpoint_of, row):
    fields = {"solver": "anderson", "guidance_scale": 1.5}
    rows = [row(number) for number in range(3)]
    alone = invert("fixed_point", checkpoint_of, rows[:1], **fields)[0]["inverted_path"]
    together = invert("fixed_point", checkpoint_of, rows[::-1], **fields)[2]["inverted_path"]
    assert torch.equal(together.trajectory_schw, alone.trajectory_schw)


@pytest.mark.parametrize("solver", ["plain", "averaged", "anderson"])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_fixed_point_spends_what_it_states(solver, scale, checkpoint_of, row):
    fields = {"solver": solver, "guidance_scale": scale, "num_inference_steps": STEPS}
    operator = Invert(method="fixed_point", checkpoint=checkpoint_of(SD), batch_size=1, **fields)
    model = operator.load()
    before = model.spent.forward
    operator.run([row(0)], model)
    assert model.spent.forward - before == operator.cost(row(0), {}).forward
