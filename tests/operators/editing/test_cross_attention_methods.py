"""Local Prompt Mixing, CSG, EBCA and Shape-Guided Diffusion against their equations."""

import math

import pytest
import torch
from method_batches import batch_of, guided
from method_cases import BATCH, STEPS, make, ready
from overpaint.operators.controls.mixing import BlendOnce
from overpaint.operators.controls.observing import ObserveAttention
from overpaint.operators.controls.segments import object_segment
from overpaint.operators.diffusion.schedule import Step
from overpaint.operators.diffusion.state import StepState
from overpaint.pipeline.errors import RowError
from plain_unet import Kept, PlainUNet, ddim, inside, inverted, maps_of, usual
from pydantic import ValidationError
from torch.nn import functional

OBJECT, OTHER = 2, 3
"""Places of two tokens in the prompts below: the object's, which changes, and another's."""


@pytest.fixture(scope="module")
def net(checkpoint_of):
    return PlainUNet(checkpoint_of("StableDiffusionPipeline"))


def prompts(number):
    """Prompts of which every token is a letter."""
    old, new = "bcd"[number], "xyz"[number]
    return {"source_prompt": f"p {old} q", "target_prompt": f"p {new} q", "mask_phrase": old}


@pytest.fixture
def sampled(checkpoint_of, row):
    """From a method and fields to the batch of some rows, and the latents that it makes."""

    def run(method, columns=None, **fields):
        edit = make(method, checkpoint_of, mask_dilate_px=0, feather_px=0, **fields)
        rows = [row(number, **{**prompts(number), **(columns or {})}) for number in range(BATCH)]
        batch = batch_of(edit, ready(edit, rows))
        return batch, edit.settings.edited(batch)

    return run


def tokens_of(batch, index):
    texts = {
        "text": prompts(index)["target_prompt"],
        "source": prompts(index)["source_prompt"],
        "negative": "",
    }
    return {name: batch.prompts([text]).tokens_bsd for name, text in texts.items()}


def check(batch, latents, transcription):
    for index in range(BATCH):
        assert torch.allclose(latents[index : index + 1], transcription(index), atol=1e-4)


def differs(latents, others, least=1e-3):
    return float((latents - others).abs().max()) > least


def ebca(batch, index, net, alphas, gamma, taus, carry):
    """One row by section 4 of arXiv 2306.09869."""
    tokens, contexts = tokens_of(batch, index), []
    new = [tokens["text"][0], tokens["source"][0]]
    path = batch.trajectory_sbchw[:, index : index + 1]
    x = path[0]

    def rule(name, attn, query, key, value):
        read = maps_of(attn, query, key) @ value
        if name.endswith("attn1"):
            return read
        heads, total, weight = len(query), read, 1.0
        for number, (alpha, sign) in enumerate(zip(alphas, (1, -1), strict=True)):
            context = contexts[number]
            k = context @ attn.to_k.weight.T
            v = context @ attn.to_v.weight.T
            if now >= taus[0]:
                parts = (part.unflatten(1, (heads, -1)).transpose(0, 1) for part in (k, v))
                k_heads, v_heads = parts
                total = total + sign * alpha * maps_of(attn, query, k_heads) @ v_heads
                weight += sign * alpha
            if now >= taus[1]:
                q = query.transpose(0, 1).flatten(1)
                likely = torch.softmax(k @ q.T * attn.scale, dim=1) @ q
                norm = torch.diag(torch.softmax(k.square().sum(dim=1), dim=0)) @ k
                contexts[number] = context + (gamma * likely - gamma * norm) @ attn.to_k.weight
        return total / weight

    for now, step in enumerate(batch.steps):
        contexts = contexts if carry and contexts else list(new)
        said = {
            "text": net(x, step, tokens["source"], rule if now >= min(taus) else usual),
            "negative": net(x, step, tokens["source"]),
        }
        eps = guided(said, 7.5)
        x = ddim(x, eps, eps, step)
    return x


@pytest.mark.parametrize("carry", [False, True])
def test_ebca_composes_contexts_that_descend(carry, sampled, net):
    fields = {"gamma_attn": 0.5, "gamma_norm": 0.5, "alpha_tau": 0.5, "gamma_tau": 0.25}
    batch, latents = sampled("ebca", {"mask_image": None}, carry_contexts=carry, **fields)
    check(batch, latents, lambda i: ebca(batch, i, net, (0.75, 0.65), 0.5, (2, 1), carry))
    _, still = sampled("ebca", {"mask_image": None}, gamma_attn=0.0, gamma_norm=0.0)
    assert differs(latents, still)


def test_ebca_cannot_take_away_all_that_there_is(sampled):
    with pytest.raises(ValidationError, match="alpha_old"):
        sampled("ebca", alpha_old=2.0)


def shape_guided(batch, index, net, schedule):
    """One row by section 3 of arXiv 2212.00210: inversion and sampling with the mask."""
    tokens = tokens_of(batch, index)
    mask = batch.mask_b1hw[index, 0]
    is_inside = inside(mask)

    def held(changed, self_schedule):
        def rule(name, attn, query, key, value):
            maps = maps_of(attn, query, key)
            if name.endswith("attn1"):
                same = is_inside[:, None] == is_inside[None]
                return torch.where(same, maps, maps * (1 - self_schedule)) @ value
            kept = torch.zeros_like(maps)
            kept[:, is_inside, OBJECT] = changed * maps[:, is_inside, OBJECT]
            for word in (1, OTHER):
                kept[:, ~is_inside, word] = maps[:, ~is_inside, word]
            return kept @ value

        return rule

    first, then = held(1.0, 1.0), held(2.5, schedule)
    clean = batch.source_latents[index : index + 1]
    path = inverted(clean, batch.steps, lambda x, step: net(x, step, tokens["source"], first))
    x = path[0]
    for step in batch.steps:
        said = {name: net(x, step, tokens[name], then) for name in ("text", "negative")}
        eps = guided(said, 4.5)
        x = torch.lerp(path[step.index + 1], ddim(x, eps, eps, step), mask)
    return x


@pytest.mark.parametrize("schedule", [1.0, 0.5])
def test_shape_guided_holds_attention_to_the_mask(schedule, sampled, net):
    batch, latents = sampled("shape_guided", self_attn_schedule=schedule)
    check(batch, latents, lambda index: shape_guided(batch, index, net, schedule))


@pytest.mark.parametrize("method", ["shape_guided", "local_prompt_mixing"])
def test_a_phrase_that_is_in_no_prompt_fails_the_row(method, sampled):
    for phrase, code in ((None, "value_missing"), ("k", "phrase_not_in_prompt")):
        with pytest.raises(RowError) as failed:
            sampled(method, {"mask_phrase": phrase})
        assert failed.value.code == code


def observed_source(batch, index, net):
    """The mean maps of the source by layer, over all steps, without heads."""
    path, total = batch.trajectory_sbchw[:, index : index + 1], {}
    for step in batch.steps:
        kept = Kept()
        net(path[step.index], step, tokens_of(batch, index)["source"], kept)
        for name, maps in kept.maps.items():
            total[name] = total.get(name, 0.0) + maps.mean(dim=0) / len(batch.steps)
    return total


def csg(batch, index, net, scale):
    """One row by section 4 of arXiv 2305.18007."""
    tokens, path = tokens_of(batch, index), batch.trajectory_sbchw[:, index : index + 1]
    means = observed_source(batch, index, net)
    cross = torch.stack([maps for name, maps in means.items() if name.endswith("attn2")])
    word = cross.mean(dim=0)[:, OBJECT]
    smooth = [maps for name, maps in means.items() if name.endswith("attn1")][-1]
    m = smooth @ (word / word.max())
    m = (m / m.max()).view(1, 1, 8, 8)
    m = functional.interpolate(m, (16, 16), mode="bilinear")
    at_layer = functional.interpolate(m, (8, 8), mode="bilinear").flatten()[None, :, None]
    x = path[0]
    for k, step in enumerate(batch.steps):
        source = Kept()
        net(path[k], step, tokens["source"], source)

        def rule(name, attn, query, key, value, source=source):
            maps = maps_of(attn, query, key)
            if name.endswith("attn2"):
                maps = at_layer * maps + (1 - at_layer) * source.maps[name]
            return maps @ value

        said = {
            "text": net(x, step, tokens["text"], rule),
            "negative": net(x, step, tokens["negative"]),
        }
        eps = guided(said, 5.0)
        a, b = step.alpha_bar, step.alpha_bar_next
        gamma = (b / a) ** 0.5 - ((1 - b) / (1 - a)) ** 0.5
        reach = max(math.cos(math.pi * k / (1.5 * (STEPS - 1))), 0.0)
        pull = gamma * scale * (1 - m) * (1 - m > 1 - reach) * (x - path[k])
        x = ddim(x, eps, eps, step) - pull
    return x


def test_csg_mixes_maps_and_pulls_to_the_source(sampled, net):
    batch, latents = sampled("csg", {"mask_image": None}, posterior_guidance=0.5)
    check(batch, latents, lambda index: csg(batch, index, net, 0.5))
    _, free = sampled("csg", {"mask_image": None}, posterior_guidance=0.0)
    check(batch, free, lambda index: csg(batch, index, net, 0.0))


def test_csg_matches_words_without_a_partner_to_the_nearest(sampled):
    columns = {"source_prompt": "p q", "target_prompt": "p r q", "mask_image": None}
    _, latents = sampled("csg", columns)
    assert bool(latents.isfinite().all())


def mixed(batch, index, net, steps, threshold):
    """One row by arXiv 2303.11306 without its blend; `q` is to be preserved in the first steps."""
    tokens, path = tokens_of(batch, index), batch.trajectory_sbchw[:, index : index + 1]
    means = observed_source(batch, index, net)
    cross = torch.stack([maps for name, maps in means.items() if name.endswith("attn2")])

    def seen(word):
        maps = cross.mean(dim=0)[:, word].view(1, 1, 8, 8)
        maps = functional.interpolate(maps, (16, 16), mode="bilinear")
        return (maps - maps.min()) / (maps.max() - maps.min()) > threshold

    kept = inside((seen(OTHER) & ~seen(OBJECT)).float()[0, 0])
    kept = kept[:, None] | kept[None]
    x = path[0]
    for k, step in enumerate(batch.steps):
        source = Kept()
        net(path[k], step, tokens["source"], source)

        def rule(name, attn, query, key, value, source=source, k=k):
            if name.endswith("attn2"):
                return maps_of(attn, query, source.parts[name][1]) @ value
            own = maps_of(attn, query, key)
            return (torch.where(kept, source.maps[name], own) if k < 3 else own) @ value

        said = {
            "text": net(x, step, tokens["text" if k in steps else "source"], rule),
            "negative": net(x, step, tokens["negative"]),
        }
        eps = guided(said, 7.5)
        x = ddim(x, eps, eps, step)
    return x


MIXING = {
    "start_prompt_range": 0.25,
    "end_prompt_range": 0.75,
    "objects_to_preserve": ("q", "k"),
    "obj_pixels_injection_threshold": 0.4,
}


def test_local_prompt_mixing_mixes_prompts_and_preserves_things(sampled, net):
    fields = {**MIXING, "background_blend_timestep": 1.0}
    batch, latents = sampled("local_prompt_mixing", {"mask_image": None}, **fields)
    check(batch, latents, lambda index: mixed(batch, index, net, (1, 2), 0.4))
    _, other = sampled("local_prompt_mixing", {"mask_image": None}, background_blend_timestep=1.0)
    assert differs(latents, other, 1e-5)


def test_local_prompt_mixing_of_no_steps_is_of_the_source_prompt(sampled):
    off = {"start_prompt_range": 0.5, "end_prompt_range": 0.5, "background_blend_timestep": 1.0}
    _, latents = sampled("local_prompt_mixing", **off, guidance_scale=1.0)
    _, again = sampled("ebca", alpha_new=0.0, alpha_old=0.0, guidance_scale=1.0)
    assert torch.allclose(latents, again, atol=1e-5)
    with pytest.raises(ValidationError, match="start_prompt_range"):
        sampled("local_prompt_mixing", start_prompt_range=0.5, end_prompt_range=0.2)


def test_segments_are_named_by_the_word_that_attends_to_them():
    left = torch.zeros(4, 4)
    left[:, :2] = 1.0
    sides = left.flatten()
    alike = (sides[:, None] == sides[None]).float() + 1e-3 * torch.eye(16)
    observed = ObserveAttention(
        branch="source", words_bwk=torch.zeros(1, 2, 5), cross_layers=["c"], self_layers=["s"]
    )
    observed.sums.update(s=alike[None], c=torch.stack([left, 1 - left])[None])
    observed.grids.update(s=(4, 4), c=(4, 4))
    options = {"num_segments": 4, "threshold": 0.3, "size": (8, 8)}
    for seed in range(4):
        found = object_segment(observed, [seed], **options)
        assert torch.equal(found, left.repeat_interleave(2, 0).repeat_interleave(2, 1)[None, None])
    none = object_segment(observed, [0], **{**options, "threshold": 1.0})
    assert not none.any()


def test_background_is_blended_in_one_step_where_there_is_an_object():
    segment = torch.zeros(2, 1, 8, 8)
    segment[0, 0, 3, 3] = 1.0
    hook = BlendOnce(step=2, segment=lambda: segment, source_bchw=torch.zeros(2, 4, 8, 8))
    x = torch.ones(2, 4, 8, 8)
    other, blended = (
        hook(x, StepState(step=Step(index, 1, 0.5, 0.6), latents_bchw=x, predictions={}))
        for index in (1, 2)
    )
    assert torch.equal(other, x)
    assert int(blended[0].sum()) == 4 * 9
    assert torch.equal(blended[1], x[1])
