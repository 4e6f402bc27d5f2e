"""Semantic guidance by concepts, against diffusers' own pipelines and the papers' equations."""

import pytest
import torch
from method_batches import batch_of, clean
from method_cases import STEPS, make, ready
from overpaint.operators.controls.attention_maps import RecordCrossAttention
from overpaint.operators.controls.concepts import row_quantile
from overpaint.operators.diffusion.attention import NO_EDITS, AttentionEdits
from overpaint.operators.diffusion.step_noise import ddim_sigma

SD = "StableDiffusionPipeline"
CONCEPTS = [
    {"prompt": "g h", "guidance_scale": 4.0, "threshold": 0.6, "warmup": 0.25},
    {"prompt": "m n", "reverse": True, "guidance_scale": 3.0, "threshold": 0.4, "warmup": 0.5},
]


def given(edit, row, number=0, concepts=CONCEPTS, **fields):
    """An inverted row without a mask; residuals have DDPM's spread."""
    fields |= {"eta": 1.0} if edit.method.startswith("ledits") else {}
    (made,) = ready(edit, [row(number, mask_image=None, edit_concepts=concepts)], **fields)
    return made


def test_row_quantile_is_torchs_with_a_share_of_each_row():
    values = torch.rand(4, 40, generator=torch.Generator().manual_seed(0))
    shares = [0.0, 0.33, 0.9, 1.0]
    expected = [v.quantile(share) for v, share in zip(values, shares, strict=True)]
    made = row_quantile(values, torch.tensor(shares)[:, None])
    assert torch.allclose(made[:, 0], torch.stack(expected))


def semantic_pipeline(checkpoint):
    from diffusers.pipelines.deprecated.semantic_stable_diffusion import (
        pipeline_semantic_stable_diffusion as official,
    )

    pipe = official.SemanticStableDiffusionPipeline.from_pretrained(
        checkpoint, safety_checker=None, requires_safety_checker=False
    )
    return with_ddim(pipe)


def with_ddim(pipe):
    from diffusers import DDIMScheduler

    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_sega_is_diffusers_own(checkpoint_of, row):
    """Two concepts with warm-ups, thresholds and directions of their own."""
    edit = make("sega", checkpoint_of, edit_momentum_scale=0.3)
    batch = batch_of(edit, [given(edit, row)])
    pipe = semantic_pipeline(checkpoint_of(SD))
    numbers = {name: [each[name] for each in CONCEPTS] for name in ("guidance_scale", "threshold")}
    expected = pipe(
        prompt="source a",
        latents=batch.trajectory_sbchw[0],
        num_inference_steps=STEPS,
        guidance_scale=7.5,
        editing_prompt=[each["prompt"] for each in CONCEPTS],
        reverse_editing_direction=[False, True],
        edit_guidance_scale=numbers["guidance_scale"],
        edit_threshold=numbers["threshold"],
        edit_warmup_steps=[1, 2],
        edit_momentum_scale=0.3,
        edit_mom_beta=0.4,
        output_type="latent",
    ).images
    assert torch.allclose(edit.settings.edited(batch), expected, atol=1e-4)


def concept_eps(batch, x, step, base, attention=NO_EDITS):
    """The noise of `negative`, `text` and both concepts."""
    prompts = {
        "negative": batch.negative_prompts(""),
        "text": batch.prompts([base]),
        "k0": batch.prompts([CONCEPTS[0]["prompt"]]),
        "k1": batch.prompts([CONCEPTS[1]["prompt"]]),
    }
    return batch.predict(x, step, prompts, attention)


def test_stable_artist_is_the_papers_equations(checkpoint_of, row):
    """Equations 5 to 8 of arXiv 2212.06013, with the lesser of 1 and the distance."""
    edit = make("stable_artist", checkpoint_of, guidance_scale=3.0)
    given_numbers = {"guidance_scale": 40.0, "weight": 2.0, "threshold": -0.01}
    concepts = [CONCEPTS[0] | given_numbers, CONCEPTS[1] | {"guidance_scale": None, "threshold": 0}]
    batch = batch_of(edit, [given(edit, row, concepts=concepts)])
    x, momentum = batch.trajectory_sbchw[0], 0.0
    for i, step in enumerate(batch.steps):
        eps = concept_eps(batch, x, step, "source a")
        terms = []
        for name, sign, scale, least in (("k0", 1, 40.0, -0.01), ("k1", -1, 2000.0, 0.0)):
            lead = eps["text"] - eps[name]
            mu = torch.minimum(scale * lead.abs(), torch.tensor(1.0))
            mu = torch.where(lead > least if sign > 0 else lead < least, mu, torch.tensor(0.0))
            terms.append(sign * mu * (eps[name] - eps["negative"]))
        gamma = (2 * terms[0] + terms[1]) / 3 + 0.25 * momentum
        momentum = 0.6 * momentum + 0.4 * gamma
        if i < 2:
            gamma = 2 * terms[0] / 3 if i == 1 else torch.zeros_like(x)
        guided = eps["negative"] + 3.0 * (eps["text"] - eps["negative"] + gamma)
        x0 = clean(x, guided, step.alpha_bar)
        x = step.alpha_bar_next**0.5 * x0 + (1 - step.alpha_bar_next) ** 0.5 * guided
    assert torch.allclose(edit.settings.edited(batch), x, atol=1e-4)


def residual_step(batch, x, eps, step, kept):
    """A DDPM step with the residual that the inversion has kept."""
    sigma, level = ddim_sigma(step, 1.0), step.alpha_bar_next
    mean = level**0.5 * clean(x, eps, step.alpha_bar) + (1 - level - sigma**2) ** 0.5 * eps
    return mean + kept.residuals_schw[step.index]


def tails(guidance, share):
    """The values of each channel beyond a quantile of its sizes."""
    least = guidance.abs().flatten(2).quantile(share, dim=2)[..., None, None]
    return torch.where(guidance.abs() >= least, guidance, torch.tensor(0.0))


def test_ledits_is_segas_guidance_on_edit_friendly_noise(checkpoint_of, row):
    edit = make("ledits", checkpoint_of, strength=0.75, guidance_scale=2.0)
    concept = {"prompt": "g h", "guidance_scale": 4.0, "threshold": 0.6, "weight": 0.5}
    source = given(edit, row, concepts=[concept | {"warmup": 0.34}])
    batch, kept = batch_of(edit, [source]), source["inverted_residuals"]
    x, momentum = kept.trajectory_schw[1][None], 0.0
    for i, step in enumerate(batch.steps):
        eps = concept_eps(batch, x, step, "target x")
        gamma = 0.5 * tails(4.0 * (eps["k0"] - eps["negative"]), 0.6) + 0.1 * momentum
        momentum = 0.4 * momentum + 0.6 * gamma
        guided = eps["negative"] + 2.0 * (eps["text"] - eps["negative"]) + (gamma if i else 0.0)
        x = residual_step(batch, x, guided, step, kept)
    assert torch.allclose(edit.settings.edited(batch), x, atol=1e-4)


def test_ledits_pp_with_noise_masks_is_diffusers_own(checkpoint_of, row):
    from diffusers import LEditsPPPipelineStableDiffusion

    edit = make("ledits_pp", checkpoint_of, strength=0.75, use_cross_attn_mask=False)
    source = given(edit, row, concepts=[{**each, "warmup": 0.0} for each in CONCEPTS])
    batch, kept = batch_of(edit, [source]), source["inverted_residuals"]
    pipe = with_ddim(
        LEditsPPPipelineStableDiffusion.from_pretrained(
            checkpoint_of(SD), safety_checker=None, requires_safety_checker=False
        )
    )
    pipe.scheduler.set_timesteps(STEPS)
    pipe.inversion_steps, pipe.batch_size, pipe.eta = pipe.scheduler.timesteps[1:], 1, 1.0
    pipe.init_latents = kept.trajectory_schw[1][None]
    maps = [kept.residuals_schw[step.index] / ddim_sigma(step, 1.0) for step in batch.steps]
    pipe.zs = torch.stack(maps)[:, None]
    expected = pipe(
        editing_prompt=[each["prompt"] for each in CONCEPTS],
        reverse_editing_direction=[False, True],
        edit_guidance_scale=[4.0, 3.0],
        edit_threshold=[0.6, 0.4],
        edit_warmup_steps=0,
        use_cross_attn_mask=False,
        use_intersect_mask=False,
        output_type="latent",
    ).images
    assert torch.allclose(edit.settings.edited(batch), expected, atol=1e-4)


def looked_at(recorder, num_tokens, share):
    """LEDITS++'s first mask for maps of 8 by 8: equation 8 and its smoothing."""
    layers = [maps for name, maps in recorder.maps.items() if not name.startswith("mid")]
    heads = torch.cat([maps[0] for maps in layers])
    seen = heads[:, :, 1 : 1 + num_tokens].sum(2).mean(0).view(1, 1, 8, 8)
    line = torch.exp(-(torch.tensor([-1.0, 0.0, 1.0]) ** 2))
    kernel = torch.outer(line, line) / torch.outer(line, line).sum()
    padded = torch.nn.functional.pad(seen, (1, 1, 1, 1), mode="reflect")
    smooth = torch.nn.functional.conv2d(padded, kernel[None, None])
    mask = (smooth >= smooth.quantile(share)).float()
    return mask.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_ledits_pp_with_both_masks_is_the_papers_equations(checkpoint_of, row):
    """Attention alone above timestep 800, and what both masks share below."""
    edit = make("ledits_pp", checkpoint_of, strength=1.0, edit_warmup=0.0)
    concepts = [{**each, "warmup": None} for each in CONCEPTS]
    source = given(edit, row, concepts=concepts, num_inference_steps=6)
    batch, kept = batch_of(edit, [source]), source["inverted_residuals"]
    x, masked = kept.trajectory_schw[0][None], []
    for step in batch.steps:
        recorders = [RecordCrossAttention(branch=name) for name in ("k0", "k1")]
        eps = concept_eps(batch, x, step, "source a", AttentionEdits(maps=recorders))
        guided = eps["negative"]
        for k, (sign, scale, share) in enumerate([(1, 4.0, 0.6), (-1, 3.0, 0.4)]):
            guidance = sign * scale * (eps[f"k{k}"] - eps["negative"])
            mask = looked_at(recorders[k], 2, share)
            if step.timestep <= 800:
                strength = guidance.abs().sum(1, keepdim=True)
                mask = mask * (strength >= strength.quantile(share))
            masked.append(float(mask.mean()))
            guided = guided + mask * guidance
        x = residual_step(batch, x, guided, step, kept)
    assert batch.steps[0].timestep > 800
    assert 0 < max(masked) < 1
    assert torch.allclose(edit.settings.edited(batch), x, atol=1e-4)


@pytest.mark.parametrize("method", ["ledits", "ledits_pp"])
def test_concepts_of_no_scale_leave_the_source_on_its_own_noise(method, checkpoint_of, row):
    none = [{"prompt": "g h", "guidance_scale": 0.0}]
    fields = {"guidance_scale": 1.0} if method == "ledits" else {"base_prompt": "source"}
    edit = make(method, checkpoint_of, strength=1.0, **fields)
    source = given(edit, row, concepts=none)
    source["target_prompt"] = source["source_prompt"]
    batch = batch_of(edit, [source])
    assert torch.allclose(edit.settings.edited(batch), batch.trajectory_sbchw[-1], atol=1e-4)


def test_concepts_guide_in_their_window_alone(checkpoint_of, row):
    """A concept that cools down before it warms up does nothing."""
    edit = make("sega", checkpoint_of, edit_momentum_scale=0.0)
    latents = []
    for window in ({"warmup": 0.5, "cooldown": 0.5}, {"guidance_scale": 0.0}, {"warmup": 0.5}):
        source = given(edit, row, concepts=[{"prompt": "g h", **window}])
        latents.append(edit.settings.edited(batch_of(edit, [source])))
    assert torch.equal(latents[0], latents[1])
    assert not torch.allclose(latents[0], latents[2], atol=1e-3)


def test_rows_with_more_concepts_are_no_neighbours_and_those_without_are_refused(
    checkpoint_of, row
):
    edit = make("sega", checkpoint_of)
    one, two, none = (given(edit, row, 0, CONCEPTS[:number]) for number in (1, 2, 0))
    assert edit.bucket(one) != edit.bucket(two)
    wrong = given(edit, row, 1, [{"prompt": " "}])
    answers = [edit.run([each], edit.load())[0] for each in (none, wrong)]
    codes = [answer.code for answer in answers]
    assert codes == ["edit_concepts_missing", "edit_concepts_invalid"]
