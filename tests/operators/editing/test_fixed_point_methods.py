"""AIDI and fixed-point inversion as editors, against plain transcriptions."""

import pytest
import torch
from method_cases import check_cost, make
from one_row import SD, after, close, edited, inverted, one_batch, path, steps_of
from overpaint.operators.controls.new_words import CrossAttentionReweight, new_words, places_of
from overpaint.operators.diffusion.attention import AttentionEdits, Layer, Site
from overpaint.operators.diffusion.latent_model import load_latent_model
from overpaint.operators.diffusion.schedule import Step
from overpaint.operators.methods.aidi import BlendedGuidance
from overpaint.operators.models.weights import Checkpoint

FIXED = {"solver": "anderson", "num_fixed_point_iterations": 5}


@pytest.fixture
def model(checkpoint_of):
    return load_latent_model(Checkpoint(name=checkpoint_of(SD)))


@pytest.fixture
def given(checkpoint_of, row):
    target = row(0, source_prompt="a b c", target_prompt="a x c d")
    return inverted("fixed_point", checkpoint_of, target, **FIXED)


def text_maps(model, latents, step, prompts):
    """The cross-attention maps of `text`, by plain hooks on what the layers project."""
    kept, handles = {}, []
    for name, module in model.unet.named_modules():
        if name.endswith("attn2"):

            def keep(attn, args, kwargs, output, name=name):
                hidden, context = args[0], kwargs["encoder_hidden_states"]
                q, k = attn.to_q(hidden), attn.to_k(context)
                q, k = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (q, k))
                kept[name] = (q @ k.transpose(2, 3) * attn.scale).softmax(-1)

            handles.append(module.register_forward_hook(keep, with_kwargs=True))
    answer = model.unet(latents, step.timestep, encoder_hidden_states=prompts).sample
    for handle in handles:
        handle.remove()
    return answer, kept


@torch.no_grad()
def test_aidi_blends_two_scales_by_the_attention_of_the_new_words(model, checkpoint_of, given):
    fields = {"cross_replace_steps": 0.0, "guidance_scale_outside": 1.5, "mask_threshold": 0.8}
    batch = one_batch(make("aidi", checkpoint_of, **fields), given)
    text = batch.prompts(["a x c d"]).tokens_bsd
    empty = batch.negative_prompts("").tokens_bsd[:1]
    latents = path(given)[0]
    for step in steps_of(model):
        said, maps = text_maps(model, latents, step, text)
        # Tokens: start, a, x, c, d, end. The maps of this UNet are 8 by 8.
        merged = torch.stack([m[0].mean(0) for m in maps.values()]).mean(0)[:, [2, 4]].amax(1)
        places = merged.view(1, 1, 8, 8)
        places = torch.nn.functional.interpolate(places, (16, 16), mode="bilinear")
        mask = (2 * places / places.max() / 0.8 - 1).clamp(0, 1)
        scale = 1.5 + (7.0 - 1.5) * mask
        other = model.unet(latents, step.timestep, encoder_hidden_states=empty).sample
        latents = after(latents, other + scale * (said - other), step)
    assert close(edited("aidi", checkpoint_of, given, **fields), latents)


def test_aidi_with_one_scale_is_prompt_to_prompt(checkpoint_of, given):
    fields = {"guidance_scale": 3.0, "strength": 1.0}
    expected = edited("prompt_to_prompt", checkpoint_of, given, **fields)
    assert close(
        edited("aidi", checkpoint_of, given, guidance_scale_outside=3.0, **fields), expected
    )


def test_aidi_with_the_source_s_prompt_is_the_source(checkpoint_of, row):
    """Without guidance outside, and with no new words, each step undoes that of the inversion."""
    fields = {"solver": "plain", "num_fixed_point_iterations": 20, "num_inference_steps": 8}
    given = inverted("fixed_point", checkpoint_of, row(0, target_prompt="source a"), **fields)
    made = edited("aidi", checkpoint_of, given, cross_replace_steps=0.0)
    unguided = edited("ddim", checkpoint_of, given, strength=1.0, guidance_scale=1.0)
    assert close(made, unguided)


@pytest.mark.parametrize("fields", [{"guidance_scale": 1.0}, {"guidance_scale_outside": 2.0}])
def test_aidi_spends_what_it_states(fields, checkpoint_of, row):
    check_cost(make("aidi", checkpoint_of, **fields), row)


def test_blended_guidance_takes_each_where_the_mask_says():
    mask = torch.tensor([[[[0.0, 1.0, 0.5]]]])
    blended = BlendedGuidance(
        inside=lambda state: torch.ones(1, 1, 1, 3) * 3,
        outside=lambda state: torch.ones(1, 1, 1, 3),
        mask=lambda state: mask,
    )
    assert blended(None).tolist() == [[[[1.0, 3.0, 2.0]]]]


def test_new_words_are_those_of_the_target_alone(checkpoint_of, given):
    edit = make("aidi", checkpoint_of)
    words = new_words(one_batch(edit, given))[0]
    assert words.nonzero().flatten().tolist()[:2] == [2, 4]
    assert not words[[0, 1, 3]].any()
    same = new_words(one_batch(edit, {**given, "target_prompt": "a b c"}))
    assert not same.any()


def test_places_are_shares_of_the_row_s_own_maximum():
    maps = {"one": torch.rand(2, 3, 64, 5), "deep": torch.rand(2, 3, 16, 5)}
    layers = [Layer("one", "cross", 1, 0), Layer("deep", "cross", 2, 1)]
    words = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
    places = places_of(maps, words, layers, (16, 16))
    assert places.shape == (2, 1, 16, 16)
    assert float(places[0].max()) == 1.0
    assert not places[1].any()
    maps["one"][1] *= 100
    assert torch.equal(places_of(maps, words, layers, (16, 16))[0], places[0])


def test_reweight_scales_the_words_of_the_text_alone():
    maps = torch.rand(2, 1, 3, 4, 5)
    words = torch.tensor([[False, True, False, True, False]])
    edit = CrossAttentionReweight(words_bt=words, scale=4.0, steps=range(1))
    site = Site(Layer("one", "cross", 0, 0), Step(0, 1, 0.5, 0.6), ("text", "source"), (2, 2))
    made = edit(site, maps)
    assert torch.equal(made[1], maps[1])
    assert torch.allclose(made[0], maps[0] * torch.tensor([1.0, 4.0, 1.0, 4.0, 1.0]))


def test_fixed_point_inversion_without_its_attention_is_prompt_to_prompt(checkpoint_of, given):
    fields = {"guidance_scale": 2.0, "strength": 1.0, "cross_replace_steps": 0.5}
    expected = edited("prompt_to_prompt", checkpoint_of, given, **fields)
    off = {"self_replace_steps": 0.0, "equalizer": 1.0, **fields}
    assert close(edited("fixed_point_inversion", checkpoint_of, given, **off), expected)
    for on in ({"self_replace_steps": 0.5}, {"equalizer": 3.0}):
        other = edited("fixed_point_inversion", checkpoint_of, given, **{**off, **on})
        assert not torch.allclose(other, expected, atol=1e-5)


@torch.no_grad()
def test_fixed_point_inversion_replaces_self_attention_of_the_text_alone(checkpoint_of, given):
    """One step: the maps of `text` are the source's, those of `negative` its own."""
    edit = make("fixed_point_inversion", checkpoint_of, cross_replace_steps=0.0)
    batch = one_batch(edit, {**given, "target_prompt": "a b c"})
    sampling = edit.own.sampling(batch)
    step = batch.steps[0]
    prompts = batch.prompts(["a b c"] * 3)
    other = replace_latents(batch, step)
    said = predict(
        batch, step, {"source": None, "text": other, "negative": other}, prompts, sampling
    )
    alone = batch.predict(other, step, {"text": prompts})["text"]
    assert close(said["negative"], alone)
    assert not torch.allclose(said["text"], alone, atol=1e-5)


def replace_latents(batch, step):
    return batch.trajectory_sbchw[step.index] * 0.5


def predict(batch, step, latents, prompts, sampling):
    from overpaint.operators.diffusion import sampling as core

    branches = {
        name: core.Branch(prompts=prompts, latents=None if own is None else lambda _, own=own: own)
        for name, own in latents.items()
    }
    edits = AttentionEdits(qkv=sampling.attention.qkv)
    return core.predict(batch.model, batch.trajectory_sbchw[step.index], step, branches, edits)
