"""Fitted embeddings, keys and values against plain transcriptions, one row at a time."""

import pytest
import torch
from method_cases import STEPS, check_cost, make
from one_row import (
    SD,
    after,
    close,
    edited,
    fitted,
    guided,
    inverted,
    one_batch,
    path,
    steps_of,
)
from overpaint.operators.controls.prompt_fit import PromptFit
from overpaint.operators.diffusion.latent_model import load_latent_model
from overpaint.operators.diffusion.prompts import embed, embed_negative
from overpaint.operators.fits import FITS
from overpaint.operators.models.weights import Checkpoint

FEW = {"num_inner_steps": 2, "learning_rate": 0.1, "early_stop_epsilon": 0.0}


@pytest.fixture
def model(checkpoint_of):
    return load_latent_model(Checkpoint(name=checkpoint_of(SD)))


@pytest.fixture
def given(checkpoint_of, row):
    return inverted("ddim", checkpoint_of, row(0))


def optimised(values, loss, step):
    """Values after two steps of torch's own Adam."""
    values = [value.detach().clone().requires_grad_() for value in values]
    adam = torch.optim.Adam(values, lr=0.1 * (1 - step.index / (2 * STEPS)))
    for _ in range(2):
        adam.zero_grad()
        loss(values).backward()
        adam.step()
    return [value.detach() for value in values]


@pytest.mark.parametrize("method", ["null_text", "prompt_tuning"])
def test_prompt_fit_is_adam_on_the_distance_from_the_path(method, model, checkpoint_of, given):
    made = fitted(method, checkpoint_of, given, **FEW)[FITS.find(method).outputs[0].name]
    source, empty = embed(model, ["source a"]).tokens_bsd, embed_negative(model, "", 1).tokens_bsd
    latents, tokens = path(given)[0], empty if method == "null_text" else source
    for step in steps_of(model):

        def moved(tokens, latents=latents, step=step):
            text, other = (source, tokens) if method == "null_text" else (tokens, empty)
            return after(latents, guided(model, latents, step, text, 7.5, other), step)

        target = path(given)[step.index + 1]
        (tokens,) = optimised(
            [tokens], lambda v, moved=moved, t=target: (moved(v[0]) - t).square().mean(), step
        )
        with torch.no_grad():
            latents = moved(tokens)
        assert torch.allclose(made.tokens_ntd[step.index], tokens[0], atol=1e-3)


def test_prompt_fits_share_one_walk():
    assert all(issubclass(FITS.find(name), PromptFit) for name in ("null_text", "prompt_tuning"))


@torch.no_grad()
def test_prompt_tuning_edits_by_prompts_on_the_way_to_the_target(model, checkpoint_of, given):
    given = fitted("prompt_tuning", checkpoint_of, given, **FEW)
    tokens = given["fitted_text"].tokens_ntd
    target, latents = embed(model, ["target x"]).tokens_bsd, path(given)[0]
    for step in steps_of(model):
        mixed = 0.7 * target + 0.3 * tokens[step.index]
        latents = after(latents, guided(model, latents, step, mixed, 7.5), step)
    made = edited("prompt_tuning_inversion", checkpoint_of, given, interpolation=0.7)
    assert close(made, latents)


def test_prompt_tuning_all_the_way_is_ddim(checkpoint_of, given):
    given = fitted("prompt_tuning", checkpoint_of, given, **FEW)
    fields = {"guidance_scale": 7.5, "strength": 1.0}
    expected = edited("ddim", checkpoint_of, given, **fields)
    made = edited("prompt_tuning_inversion", checkpoint_of, given, interpolation=1.0)
    assert close(made, expected)


@torch.no_grad()
def test_disentanglement_mixes_the_prompts_by_step(model, checkpoint_of, given):
    source, target = (embed(model, [words]).tokens_bsd for words in ("source a", "target x"))
    latents, weights = path(given)[0], [0.8, 0.8, 0.25, 0.25]
    for step in steps_of(model):
        mixed = weights[step.index] * source + (1 - weights[step.index]) * target
        latents = after(latents, guided(model, latents, step, mixed, 7.5), step)
    two = {"lambda_t_star": 0.5, "lambda_t_default_1": 0.8, "lambda_t_default_2": 0.25}
    for fields in (two, {"lambda_t": (0.8, 0.25)}):
        assert close(edited("diffusion_disentanglement", checkpoint_of, given, **fields), latents)


def test_disentanglement_of_the_target_alone_is_ddim(checkpoint_of, given):
    fields = {"guidance_scale": 7.5, "strength": 1.0}
    expected = edited("ddim", checkpoint_of, given, **fields)
    made = edited("diffusion_disentanglement", checkpoint_of, given, lambda_t_star=0.0)
    assert close(made, expected)
    with pytest.raises(ValueError, match="lambda_t"):
        make("diffusion_disentanglement", checkpoint_of, lambda_t=(0.5, 1.5))


class Values:
    """Plain values of cross-attention from tokens of their own, and its maps."""

    def __init__(self, model):
        self.maps, self.context, self.handles = {}, None, []
        for name, module in model.unet.named_modules():
            if name.endswith("attn2"):
                self.handles += [
                    module.to_v.register_forward_pre_hook(self._swap),
                    module.register_forward_hook(self._keep(name), with_kwargs=True),
                ]

    def _swap(self, module, args):
        return None if self.context is None else (self.context,)

    def _keep(self, name):
        def keep(attn, args, kwargs, output):
            q, k = attn.to_q(args[0]), attn.to_k(kwargs["encoder_hidden_states"])
            q, k = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (q, k))
            self.maps[name] = (q @ k.transpose(2, 3) * attn.scale).softmax(-1)

        return keep

    def predict(self, model, latents, step, keys, values=None):
        self.context = values
        said = model.unet(latents, step.timestep, encoder_hidden_states=keys).sample
        self.context = None
        return said, dict(self.maps)


@pytest.fixture
def values(model):
    hooks = Values(model)
    yield hooks
    for handle in hooks.handles:
        handle.remove()


def test_style_diffusion_fits_values_to_path_and_maps(model, values, checkpoint_of, given):
    fields = {**FEW, "map_weight": 0.5}
    source, empty = embed(model, ["source a"]).tokens_bsd, embed_negative(model, "", 1).tokens_bsd
    latents, state = path(given)[0], [torch.ones_like(source), torch.zeros_like(source)]
    expected = []
    for step in steps_of(model):
        with torch.no_grad():
            _, inverted_maps = values.predict(model, path(given)[step.index], step, source)
            other, _ = values.predict(model, latents, step, empty)

        def moved(state, latents=latents, step=step, other=other):
            tokens = source * state[0] + state[1]
            said, maps = values.predict(model, latents, step, source, tokens)
            return after(latents, other + 7.5 * (said - other), step), maps

        def loss(state, moved=moved, step=step, wanted=inverted_maps):
            reached, maps = moved(state)
            error = (reached - path(given)[step.index + 1]).square().mean()
            return error + 0.5 * sum((maps[n] - wanted[n]).square().mean() for n in maps)

        state = optimised(state, loss, step)
        with torch.no_grad():
            latents, _ = moved(state)
        expected.append(source * state[0] + state[1])
    for handle in values.handles:
        handle.remove()
    made = fitted("style_diffusion", checkpoint_of, given, **fields)["fitted_values"]
    assert torch.allclose(made.tokens_ntd, torch.cat(expected), atol=1e-3)


def test_style_diffusion_optimises_less_from_step_to_step():
    fit = FITS.find("style_diffusion")(num_inner_steps=100)
    assert [fit.inner_steps(index) for index in (0, 1, 10, 40)] == [100, 91, 37, 2]
    assert fit.cost(2).backward == 191


@torch.no_grad()
def test_style_diffusion_takes_fitted_values_at_first(model, values, checkpoint_of, given):
    given = fitted("style_diffusion", checkpoint_of, given, **FEW)
    target, empty = embed(model, ["target x"]).tokens_bsd, embed_negative(model, "", 1).tokens_bsd
    latents = path(given)[0]
    for step in steps_of(model):
        own = given["fitted_values"].tokens_ntd[step.index][None] if step.index < 2 else None
        said, _ = values.predict(model, latents, step, target, own)
        other, _ = values.predict(model, latents, step, empty)
        latents = after(latents, other + 7.5 * (said - other), step)
    for handle in values.handles:
        handle.remove()
    fields = {"cross_replace_steps": 0.0, "self_replace_steps": 0.0}
    assert close(edited("style_diffusion", checkpoint_of, given, **fields), latents)


def test_style_diffusion_without_values_is_prompt_to_prompt(checkpoint_of, given):
    given = fitted("style_diffusion", checkpoint_of, given, **FEW)
    fields = {"guidance_scale": 7.5, "strength": 1.0, "cross_replace_steps": 0.5}
    expected = edited("prompt_to_prompt", checkpoint_of, given, **fields)
    off = {"tau_v": 0.0, "self_replace_steps": 0.0, **fields}
    assert close(edited("style_diffusion", checkpoint_of, given, **off), expected)
    for on in ({"self_replace_steps": 0.5}, {"tau_u": 0.5}):
        other = edited("style_diffusion", checkpoint_of, given, **{**off, **on})
        assert not torch.allclose(other, expected, atol=1e-5)


def test_kv_inversion_without_learning_is_masactrl(checkpoint_of, given):
    expected = edited("masactrl", checkpoint_of, given, start_layer=0.0)
    fields = {"num_inner_steps": 0, "start_layer": 0.0}
    assert close(edited("kv_inversion", checkpoint_of, given, **fields), expected)
    learned = edited("kv_inversion", checkpoint_of, given, learning_rate=0.1, start_layer=0.0)
    assert not torch.allclose(learned, expected, atol=1e-4)


def test_kv_inversion_learns_to_follow_the_path(checkpoint_of, given):
    """The source's step with what was learned ends nearer to the trajectory, in every step."""
    fields = {"num_inner_steps": 6, "learning_rate": 0.02, "start_layer": 0.0}
    edit = make("kv_inversion", checkpoint_of, **fields)
    batch = one_batch(edit, given)
    (learned, _), source = edit.own.sampling(batch).attention.qkv, batch.prompts(["source a"] * 3)
    for step in batch.steps:
        errors = [step_error(batch, step, source, None)]
        edit.own._learn(batch, learned, step, source)
        errors.append(step_error(batch, step, source, learned))
        assert errors[1] < errors[0]


def step_error(batch, step, source, learned):
    from overpaint.operators.diffusion.attention import AttentionEdits

    edits = AttentionEdits(qkv=[learned] if learned else [])
    here = batch.trajectory_sbchw[step.index]
    with torch.no_grad():
        said = batch.predict(here, step, {"source": source}, edits)["source"]
    reached = batch.advance(here, step, said)
    return float((reached - batch.trajectory_sbchw[step.index + 1]).square().mean())


@pytest.mark.parametrize("fields", [{"start_step": 1.0}, {"strength": 0.5, "num_inner_steps": 1}])
def test_kv_inversion_spends_what_it_states(fields, checkpoint_of, row):
    check_cost(make("kv_inversion", checkpoint_of, **fields), row)
