"""The denoising loop against diffusers, and the controls that plug into it."""

import numpy as np
import pytest
import torch
from overpaint.operators.controls.guidance import ClassifierFree
from overpaint.operators.controls.prompt_to_prompt import CrossAttentionReplace, align
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.latent_model import load_latent_model
from overpaint.operators.diffusion.latents import make_generators
from overpaint.operators.diffusion.prompts import embed, embed_negative
from overpaint.operators.diffusion.sampling import Branch, Controls, denoise, predict
from overpaint.operators.diffusion.schedule import Step, make_schedule, steps_in, walked_steps
from overpaint.operators.diffusion.state import StepState
from overpaint.operators.diffusion.step_noise import FreshNoise
from overpaint.operators.models.weights import Checkpoint

PROMPTS = ["a b c", "d e"]
STEPS = 4
EVERY = range(STEPS)


@pytest.fixture
def model(checkpoint_of):
    return load_latent_model(Checkpoint(name=checkpoint_of("StableDiffusionPipeline")))


def noise(seed=0):
    return torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(seed))


def branches(model, *names):
    embeds = {
        "text": embed(model, PROMPTS),
        "negative": embed_negative(model, "", 2),
        "source": embed(model, ["a b x", "d f"]),
    }
    return {name: Branch(prompts=embeds[name]) for name in names}


def run(model, names=("negative", "text"), attention=None, start=None):
    schedule = make_schedule(model.scheduler_config, STEPS)
    controls = Controls(
        guidance=ClassifierFree(guidance_scale=3.0), attention=attention or AttentionEdits()
    )
    start = noise() if start is None else start
    return denoise(model, start, schedule, schedule.steps, branches(model, *names), controls)


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "StableDiffusionXLPipeline"])
def test_denoise_is_what_diffusers_makes(name, checkpoint_of):
    import diffusers

    folder = checkpoint_of(name)
    model = load_latent_model(Checkpoint(name=folder))
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(
        pipeline.scheduler.config, clip_sample=False
    )
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        PROMPTS,
        negative_prompt=["x y", "x y"],
        latents=noise(),
        guidance_scale=3.0,
        num_inference_steps=STEPS,
        height=32,
        width=32,
        output_type="latent",
    ).images
    schedule = make_schedule(model.scheduler_config, STEPS)
    asked = {
        "text": Branch(prompts=embed(model, PROMPTS)),
        "negative": Branch(prompts=embed_negative(model, "x y", 2)),
    }
    controls = Controls(guidance=ClassifierFree(guidance_scale=3.0))
    made = denoise(model, noise(), schedule, schedule.steps, asked, controls)
    assert torch.allclose(made, expected, atol=2e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_denoise_steps_are_those_of_ddim(prediction, model):
    from diffusers import DDIMScheduler

    config = {**model.scheduler_config, "prediction_type": prediction}
    scheduler = DDIMScheduler.from_config(config, clip_sample=False)
    scheduler.set_timesteps(STEPS)
    schedule = make_schedule(config, STEPS)
    asked = branches(model, "text")
    controls = Controls(guidance=ClassifierFree(guidance_scale=1.0))
    latents = noise()
    for step, timestep in zip(schedule.steps, scheduler.timesteps, strict=True):
        with torch.no_grad():
            tokens = asked["text"].prompts_at(step).tokens_bsd
            answer = model.unet(latents, timestep, tokens).sample
        expected = scheduler.step(answer, timestep, latents).prev_sample
        made = denoise(model, latents, schedule, [step], asked, controls)
        assert torch.allclose(made, expected, atol=1e-4)
        latents = made


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_denoise_with_fresh_noise_is_ddim_with_eta(eta, model):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_config(model.scheduler_config, clip_sample=False)
    scheduler.set_timesteps(STEPS)
    schedule = make_schedule(model.scheduler_config, STEPS)
    asked = branches(model, "text")
    controls = Controls(
        guidance=ClassifierFree(guidance_scale=1.0),
        noise=FreshNoise(generators=make_generators([3, 4]), eta=eta),
    )
    made = denoise(model, noise(), schedule, schedule.steps, asked, controls)
    latents, generators = noise(), make_generators([3, 4])
    for step, timestep in zip(schedule.steps, scheduler.timesteps, strict=True):
        prediction = predict(model, latents, step, asked)["text"]
        drawn = torch.stack([torch.randn(4, 16, 16, generator=each) for each in generators])
        latents = scheduler.step(
            prediction, timestep, latents, eta=eta, variance_noise=drawn
        ).prev_sample
    assert torch.allclose(made, latents.detach(), atol=1e-4)


def test_walked_steps_are_the_last_ones_and_at_least_one():
    assert list(walked_steps(0.3, 10)) == [7, 8, 9]
    assert list(walked_steps(0.01, 10)) == [9]
    assert list(walked_steps(1.0, 10)) == list(range(10))
    assert list(steps_in((0.0, 0.5), walked_steps(0.4, 10))) == [6, 7]
    assert not steps_in((0.5, 0.5), range(10))


def test_guidance_rescale_keeps_rows_apart():
    predictions = {"text": noise(1), "negative": noise(2)}
    guidance = ClassifierFree(guidance_scale=5.0, rescale=0.7)
    step = Step(0, 1, 0.5, 0.6)
    state = StepState(step=step, latents_bchw=noise(3), predictions=predictions)
    first = {name: prediction[:1] for name, prediction in predictions.items()}
    alone = guidance(StepState(step=step, latents_bchw=noise(3)[:1], predictions=first))
    assert torch.allclose(guidance(state)[:1], alone)
    assert float(guidance(state).std()) < float(ClassifierFree(guidance_scale=5.0)(state).std())


class Identity:
    """Edits that change nothing, so that the computation is tested."""

    def applies(self, site):
        return True

    def __call__(self, site, tensors):
        assert len(site.branches) == 2
        return tensors


@pytest.mark.parametrize(
    "attention", [AttentionEdits(qkv=[Identity()]), AttentionEdits(maps=[Identity()])]
)
def test_attention_edits_that_change_nothing_change_nothing(attention, model):
    assert torch.allclose(run(model, attention=attention), run(model), atol=1e-5)


def test_attention_swap_of_words_changes_text_only_where_it_may(model):
    plain = run(model, ("negative", "text", "source"))
    none = CrossAttentionReplace(words_bst=torch.zeros(2, 16, 16), steps=EVERY)
    kept = run(model, ("negative", "text", "source"), AttentionEdits(maps=[none]))
    assert torch.allclose(kept, plain, atol=1e-5)
    words = torch.stack([torch.eye(16), torch.zeros(16, 16)])
    first = CrossAttentionReplace(words_bst=words, steps=EVERY)
    swapped = run(model, ("negative", "text", "source"), AttentionEdits(maps=[first]))
    assert not torch.allclose(swapped[0], plain[0], atol=1e-5)
    assert torch.allclose(swapped[1], plain[1], atol=1e-5)


def test_align_words_that_stay_are_replaced_or_are_new():
    end = 9
    words = align([8, 1, 2, 3, end, 9, 9], [8, 1, 5, 6, 3, end, 9], end)
    expected = np.zeros((7, 7))
    for source, target, share in [
        (0, 0, 1),
        (1, 1, 1),
        (2, 2, 0.5),
        (2, 3, 0.5),
        (3, 4, 1),
        (4, 5, 1),
        (5, 6, 1),
    ]:
        expected[source, target] = share
    assert np.array_equal(words.numpy(), expected)
    added = align([8, 1, end, 9], [8, 1, 5, end], end)
    assert not added[:, 2].any()


def test_vae_of_an_xl_computes_in_float32_where_the_rest_is_half(checkpoint_of):
    large = load_latent_model(
        Checkpoint(name=checkpoint_of("StableDiffusionXLPipeline"), dtype="float16")
    )
    small = load_latent_model(
        Checkpoint(name=checkpoint_of("StableDiffusionPipeline"), dtype="float16")
    )
    assert (large.vae.dtype, large.unet.dtype) == (torch.float32, torch.float16)
    assert small.vae.dtype == torch.float16
