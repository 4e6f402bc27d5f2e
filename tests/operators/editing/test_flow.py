"""Methods on flow-matching transformers, beside diffusers' pipelines and plain loops of the papers.

The plain loops below have latents of a flow, (1 - sigma) x0 + sigma eps, as the papers have them.
"""

from itertools import pairwise

import diffusers
import numpy as np
import pytest
import torch
from method_cases import make
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.flow_batch import FlowBatch
from overpaint.operators.diffusion.sampling import Branch, predict, to_prediction, to_x0_and_eps
from overpaint.operators.diffusion.schedule import alpha_bar_of, sigma_of
from overpaint.operators.methods import METHODS
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.identity import operator_fingerprint

FLUX, KLEIN, QWEN = "FluxPipeline", "Flux2KleinPipeline", "QwenImagePipeline"
KINDS = [FLUX, KLEIN, QWEN]
STEPS = 4
NAMES = [name for name in METHODS.names() if FLUX in METHODS.find(name).checkpoints]


def flow(method, kind, checkpoint_of, **fields):
    return make(f"{method}-{kind}", checkpoint_of, **{"batch_size": 2, **fields})


def batch_of(operator, rows):
    """The rows of an edit as its method has them, and the method."""
    model, method = operator.load(), operator.own
    requests = [operator.prepare(row, model).request for row in rows]
    batch = FlowBatch(
        requests,
        model[""],
        num_inference_steps=method.num_inference_steps,
        walked=method.walked,
        guidance_scale=method.guidance_scale,
    )
    return batch, method


def velocity_of(batch, scale=None, prompts=None):
    """The transformer's velocity under the target prompts, or others."""
    embeds = batch.prompts(prompts or [r.prompt for r in batch.requests], scale)
    return lambda latents, sigma: batch.flow.velocity(latents, sigma, embeds)


def noised(batch, sigma):
    return (1 - sigma) * batch.source_latents + sigma * batch.noise


def diffusers_sees_the_mode(monkeypatch):
    """Makes diffusers take the most likely latents of a picture, as Overpaint does."""
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda own, generator: own.mode())


def diffusers_own(kind, operator, request, **given):
    pipeline = getattr(diffusers, kind).from_pretrained(operator.checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt=request.prompt,
        height=request.picture.shape[0],
        width=request.picture.shape[1],
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(request.seed),
        output_type="np",
        **given,
    ).images[0]


def edited(operator, row):
    model = operator.load()
    item = operator.prepare(row, model)
    return item.request, operator.infer([item, item], model)[0] / 255.0


@pytest.mark.parametrize(
    ("kind", "fields", "given"),
    [
        (FLUX, {"guidance_scale": 2.5}, {"guidance_scale": 2.5}),
        (
            FLUX,
            {"true_cfg_scale": 3.0, "negative_prompt": "d"},
            {"guidance_scale": 3.5, "true_cfg_scale": 3.0, "negative_prompt": "d"},
        ),
        (KLEIN, {}, {"guidance_scale": 1.0}),
        (
            QWEN,
            {"true_cfg_scale": 4.0, "negative_prompt": "dd d"},
            {"true_cfg_scale": 4.0, "negative_prompt": "dd d"},
        ),
    ],
)
def test_from_noise_it_is_diffusers_text_to_image(kind, fields, given, checkpoint_of, row):
    operator = flow("flow_sdedit", kind, checkpoint_of, strength=1.0, **fields)
    request, picture = edited(operator, row(0, mask_image=None))
    expected = diffusers_own(kind, operator, request, **given)
    assert np.abs(picture.clip(0, 1) - expected).max() < 1e-3


@pytest.mark.parametrize(
    ("kind", "own", "given"),
    [
        (FLUX, "FluxImg2ImgPipeline", {"guidance_scale": 3.5}),
        (QWEN, "QwenImageImg2ImgPipeline", {}),
    ],
)
def test_sdedit_is_diffusers_image_to_image(kind, own, given, checkpoint_of, row, monkeypatch):
    diffusers_sees_the_mode(monkeypatch)
    operator = flow("flow_sdedit", kind, checkpoint_of, strength=0.5)
    request, picture = edited(operator, row(0, mask_image=None))
    source = torch.from_numpy(request.picture / np.float32(255)).permute(2, 0, 1)[None]
    expected = diffusers_own(own, operator, request, image=source, strength=0.5, **given)
    assert np.abs(picture.clip(0, 1) - expected).max() < 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["flow_blended", "flow_differential", "flow_sdedit"])
def test_loop_is_eulers_of_the_flow(method, kind, checkpoint_of, row):
    operator = flow(method, kind, checkpoint_of)
    batch, own = batch_of(operator, [row(0), row(1)])
    velocity = velocity_of(batch)
    latents = noised(batch, batch.sigmas[0])
    assert batch.sigmas[0] == 1.0 or method == "flow_sdedit"
    maps = [torch.ones(1, 32, 32) for _ in batch.requests]
    if method == "flow_differential":
        maps = [torch.from_numpy(r.values["strength_map"])[None] for r in batch.requests]
    height, width = latents.shape[2:]
    strength = torch.nn.functional.adaptive_avg_pool2d(torch.stack(maps), (height, width))
    for place, (sigma, following) in enumerate(pairwise(batch.sigmas), start=1):
        latents = latents + (following - sigma) * velocity(latents, sigma)
        source = noised(batch, following)
        free = (strength > 1 - place / len(batch.steps)) * batch.mask_b1hw
        latents = source + free * (latents - source)
    assert torch.allclose(own.edited(batch), latents, atol=1e-4)
    assert not torch.allclose(latents, batch.source_latents, atol=1e-2)


def test_rf_inversion_is_the_papers_algorithms(checkpoint_of, row):
    fields = {"gamma": 0.4, "eta": 0.7, "start_timestep": 0.25, "stop_timestep": 0.75}
    operator = flow("rf_inversion", FLUX, checkpoint_of, **fields)
    batch, own = batch_of(operator, [row(0, mask_image=None), row(1, mask_image=None)])
    y0, y1 = batch.source_latents, batch.noise
    levels = batch.sigmas[::-1]
    u, y = velocity_of(batch, 0.0, [""] * 2), y0
    for t, following in pairwise(levels):  # algorithm 1: from the source to noise
        drift = u(y, t)
        y = y + (drift + 0.4 * ((y1 - y) / (1 - t) - drift)) * (following - t)
    v, x = velocity_of(batch), y
    for i, (t, following) in enumerate(pairwise([1 - level for level in batch.sigmas])):
        drift = -v(x, 1 - t)  # algorithm 2: its time runs from noise to the source
        eta = 0.7 if i in (1, 2) else 0.0
        x = x + (drift + eta * ((y0 - x) / (1 - t) - drift)) * (following - t)
    assert torch.allclose(own.edited(batch), x, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_rf_inversion_drawn_to_the_end_is_the_source(kind, checkpoint_of, row):
    operator = flow("rf_inversion", kind, checkpoint_of, stop_timestep=1.0)
    batch, own = batch_of(operator, [row(0, mask_image=None), row(1, mask_image=None)])
    assert torch.allclose(own.edited(batch), batch.source_latents, atol=1e-5)
    batch, own = batch_of(
        flow("rf_inversion", kind, checkpoint_of), [row(0, mask_image=None), row(1)]
    )
    assert not torch.allclose(own.edited(batch), batch.source_latents, atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_fireflow_gives_the_source_back_better_than_euler(kind, checkpoint_of, row):
    operator = flow(
        "fireflow", kind, checkpoint_of, num_inference_steps=8, guidance_scale=1.0, batch_size=2
    )
    rows = [row(n, mask_image=None, target_prompt=f"source {'abc'[n]}") for n in range(2)]
    batch, own = batch_of(operator, rows)
    velocity = velocity_of(batch)
    euler = batch.source_latents
    for levels in (batch.sigmas[::-1], batch.sigmas):
        for sigma, following in pairwise(levels):
            euler = euler + (following - sigma) * velocity(euler, sigma)
    errors = [(made - batch.source_latents).abs().mean() for made in (own.edited(batch), euler)]
    assert errors[0] < 0.5 * errors[1]


def test_fireflow_is_the_papers_algorithm(checkpoint_of, row):
    operator = flow("fireflow", FLUX, checkpoint_of)
    batch, own = batch_of(operator, [row(0, mask_image=None), row(1, mask_image=None)])
    sources = [f"source {'abc'[n]}" for n in range(2)]
    latents = batch.source_latents
    for levels, velocity in (
        (batch.sigmas[::-1], velocity_of(batch, 1.0, sources)),
        (batch.sigmas, velocity_of(batch)),
    ):
        following_velocity = None
        for t, following in pairwise(levels):
            first = velocity(latents, t) if following_velocity is None else following_velocity
            middle = latents + (following - t) / 2 * first
            following_velocity = velocity(middle, t + (following - t) / 2)
            latents = latents + (following - t) * following_velocity
    assert torch.allclose(own.edited(batch), latents, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_row_is_alone_beside_prompts_of_other_lengths(name, kind, checkpoint_of, row):
    operator = flow(name, kind, checkpoint_of, true_cfg_scale=2.0)
    model = operator.load()
    own, other = row(0), row(1, target_prompt="a very much longer prompt", source_prompt="a bc")
    alone = operator.run([own], model)[0]["edited_image"]
    for rows, slot in (([own, other], 0), ([other, own], 1)):
        assert operator.run(rows, model)[slot]["edited_image"] == alone
    model[""].prompts.clear()
    model[""].sources.clear()
    assert operator.run([own], model)[0]["edited_image"] == alone


@pytest.mark.parametrize(
    ("name", "forward", "text"),
    [
        ("flow_sdedit", 2 * 3, 1),
        ("flow_blended", 2 * 4, 1),
        ("flow_differential", 2 * 4, 1),
        ("rf_inversion", 4 + 2 * 4, 1),
        ("fireflow", 5 + 2 * 5, 2),
    ],
)
def test_true_guidance_costs_a_branch(name, forward, text, checkpoint_of, row):
    operator = flow(name, FLUX, checkpoint_of, true_cfg_scale=2.0)
    stated = Cost(forward=forward, vae_encode=1, vae_decode=1, text=text)
    assert operator.cost(row(0), {}) == stated
    model = operator.load()
    before = model[""].spent.counts()
    operator.run([row(4), row(5)], model)
    after = model[""].spent.counts()
    assert after["forward"] - before.get("forward", 0) == 2 * forward


def test_guidance_and_scheduler_are_in_key_and_picture(checkpoint_of, row):
    usual = flow("flow_sdedit", FLUX, checkpoint_of)
    changes = [
        {"guidance_scale": 1.0},
        {"true_cfg_scale": 2.0},
        {"strength": 0.4},
        {"scheduler": {"base_shift": 1.0, "max_shift": 3.0}},
    ]
    prints, pictures = {operator_fingerprint(usual)}, {edited(usual, row(0))[1].tobytes()}
    for change in changes:
        other = flow("flow_sdedit", FLUX, checkpoint_of, **change)
        prints.add(operator_fingerprint(other))
        pictures.add(edited(other, row(0))[1].tobytes())
    assert len(prints) == len(pictures) == 1 + len(changes)


def test_checkpoint_of_another_kind_is_refused(checkpoint_of):
    with pytest.raises(ValueError, match="is a StableDiffusionPipeline: this takes a FluxPipeline"):
        flow("flow_sdedit", "StableDiffusionPipeline", checkpoint_of).check()


@pytest.mark.parametrize("sigma", [0.0, 1e-3, 0.3, 0.999, 1.0])
def test_levels_of_a_flow_are_ddims(sigma):
    assert sigma_of(alpha_bar_of(sigma)) == pytest.approx(sigma, abs=1e-9)
    x0, eps = torch.randn(2, 1, 4, 8, 8, dtype=torch.float64)
    alpha_bar = alpha_bar_of(sigma)
    latents = alpha_bar**0.5 * x0 + (1 - alpha_bar) ** 0.5 * eps
    made = to_x0_and_eps(eps - x0, latents, alpha_bar, "flow_prediction")
    assert torch.allclose(made[0], x0, atol=1e-9)
    assert torch.allclose(made[1], eps, atol=1e-9)
    if sigma < 1.0:
        back = to_prediction(eps, latents, alpha_bar, "flow_prediction")
        assert torch.allclose(back, eps - x0, atol=1e-6)


def test_edits_of_attention_are_refused(checkpoint_of, row):
    batch, _ = batch_of(flow("flow_sdedit", FLUX, checkpoint_of), [row(0), row(1)])
    edits = AttentionEdits(qkv=[lambda *_: None])
    branches = {"text": Branch(prompts=batch.prompts(["a", "b"]))}
    with pytest.raises(ValueError, match="attention"):
        predict(batch.model, batch.noise, batch.steps[0], branches, edits)
