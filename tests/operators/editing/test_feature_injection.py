"""FEC, TIC, InjectFusion and TF-ICON against their equations."""

import numpy as np
import pytest
import torch
from method_batches import batch_of, clean, guided, prompts_of
from method_cases import BATCH, make, ready
from overpaint.operators.controls.references import framed_references, pasted_reference
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.framing.conditions import LabelledBox
from overpaint.pipeline.errors import RowError
from plain_unet import Kept, PlainUNet, ddim, inside, inverted, maps_of
from transformers import CLIPTextModel


@pytest.fixture(scope="module")
def net(checkpoint_of):
    return PlainUNet(checkpoint_of("StableDiffusionPipeline"))


@pytest.fixture
def sampled(checkpoint_of, row):
    """From a method and fields to the batch of some rows, and the latents that it makes."""

    def run(method, columns=None, **fields):
        edit = make(method, checkpoint_of, mask_dilate_px=0, feather_px=0, **fields)
        rows = [row(number, **(columns or {})) for number in range(BATCH)]
        batch = batch_of(edit, ready(edit, rows))
        return batch, edit.settings.edited(batch)

    return run


def tokens_of(batch, index):
    said = {
        name: embeds.tokens_bsd[index : index + 1] for name, embeds in prompts_of(batch).items()
    }
    return said | {"source": batch.prompts(batch.source_prompts()).tokens_bsd[index : index + 1]}


def path_of(batch, index):
    return batch.trajectory_sbchw[:, index : index + 1]


def check(batch, latents, transcription):
    for index in range(BATCH):
        assert torch.allclose(latents[index : index + 1], transcription(index), atol=1e-4)


def enhanced(batch, index, net, later, join):
    """One row: keys and values of the source at `later` levels on, from step 1, in the decoder."""
    tokens, path = tokens_of(batch, index), path_of(batch, index)
    mask = batch.mask_b1hw[index, 0]
    foreground = inside(mask)
    x = path[0]
    for k, step in enumerate(batch.steps):
        source = Kept()
        net(path[k + later], step, tokens["source"], source)

        def rule(name, attn, query, key, value, source=source, k=k):
            if not name.endswith("attn1") or not name.startswith("up") or k < 1:
                return maps_of(attn, query, key) @ value
            _, k_source, v_source = source.parts[name]
            alone = maps_of(attn, query, k_source) @ v_source
            if not join:
                return alone
            both = torch.cat([k_source, key], dim=1)
            joined = maps_of(attn, query, both) @ torch.cat([v_source, value], dim=1)
            return torch.where(foreground[:, None], joined, alone)

        eps = guided({name: net(x, step, tokens[name], rule) for name in ("text", "negative")}, 7.5)
        x = torch.lerp(path[k + 1], ddim(x, eps, eps, step), mask)
    return x


def test_fec_looks_at_the_keys_and_values_of_the_inversion(sampled, net):
    batch, latents = sampled("fec", start_step=0.25)
    check(batch, latents, lambda index: enhanced(batch, index, net, 1, join=False))
    _, path = sampled("fec", start_step=0.25, source="path")
    _, masactrl = sampled("masactrl", start_step=0.25)
    assert torch.equal(path, masactrl)
    assert not torch.equal(path, latents)


def test_tic_joins_inversion_and_edit_in_the_mask(sampled, net):
    batch, latents = sampled("tic", start_step=0.25)
    check(batch, latents, lambda index: enhanced(batch, index, net, 1, join=True))
    _, apart = sampled("tic", start_step=0.25, join=False)
    _, fec = sampled("fec", start_step=0.25)
    assert torch.equal(apart, fec)
    assert float((apart - latents).abs().max()) > 1e-3


def between(h, content, share):
    """The spherical interpolation of features of one length."""
    other = content * h.norm() / content.norm()
    angle = torch.acos((h * other).sum() / (h.norm() * other.norm()))
    mixed = torch.sin((1 - share) * angle) * h + torch.sin(share * angle) * other
    return mixed / torch.sin(angle)


def injected(batch, index, net, inject, omega):
    """One row by algorithms 1 and 2 of arXiv 2303.15403: content in steps 0 and 1, noise in 3."""
    tokens, source = tokens_of(batch, index), path_of(batch, index)
    own, empty = tokens["source"], tokens["negative"]
    start = batch.encode(framed_references(batch))[index : index + 1]
    reference = inverted(start, batch.steps, lambda x, step: net(x, step, empty))
    base, said = (source, own) if inject == "reference" else (reference, empty)
    content, named = (reference, empty) if inject == "reference" else (source, own)
    noise = torch.Generator().manual_seed(100 + index)
    x = base[0]
    for k, step in enumerate(batch.steps):
        a, b = step.alpha_bar, step.alpha_bar_next
        sigma = ((1 - b) / (1 - a) * (1 - a / b)) ** 0.5 if k == 3 else 0.0
        net(content[k], step, named)
        h_content = net.seen
        eps = net(x, step, said)
        if k >= 2:
            x = ddim(x, eps, eps, step, sigma)
        else:
            middle = between(net.seen, h_content, 0.3)
            mixed = net(x, step, said, middle=middle)
            if not omega:
                x = ddim(x, mixed, eps, step)
            else:
                x0, mixed_x0 = clean(x, eps, a), clean(x, mixed, a)
                mean = mixed_x0.mean()
                rescaled = mean + (mixed_x0 - mean) / mixed_x0.std() * x0.std()
                x = x + a**0.5 * (rescaled - x0) + omega * (1 - a) ** 0.5 * (mixed - eps)
                eps = net(x, step, said)
                x = ddim(x, eps, eps, step)
        if sigma:
            x = x + sigma * torch.randn(x.shape[1:], generator=noise)
    return x


@pytest.mark.parametrize(
    ("inject", "omega"), [("reference", 0.0), ("source", 0.0), ("source", 0.5)]
)
def test_inject_fusion_injects_content_in_h_space(inject, omega, sampled, net):
    batch, latents = sampled("inject_fusion", {"mask_image": None}, inject=inject, omega=omega)
    check(batch, latents, lambda index: injected(batch, index, net, inject, omega))


def test_inject_fusion_of_no_content_is_the_source_sampled_again(sampled, net):
    fields = {"h_gamma": 0.0, "t_boost": 0.0}
    batch, latents = sampled("inject_fusion", {"mask_image": None}, **fields)
    _, other = sampled("inject_fusion", {"mask_image": None}, t_boost=0.0)
    for index in range(BATCH):
        x, said = path_of(batch, index)[0], tokens_of(batch, index)["source"]
        for step in batch.steps:
            eps = net(x, step, said)
            x = ddim(x, eps, eps, step)
        assert torch.allclose(latents[index : index + 1], x, atol=1e-5)
    assert float((latents - other).abs().max()) > 1e-3


def exceptional(checkpoint, batch):
    """The exceptional prompt by a text encoder whose positions are 0."""
    encoder = CLIPTextModel.from_pretrained(f"{checkpoint}/text_encoder").eval()
    for name, part in encoder.named_modules():
        if name.endswith("position_embedding"):
            part.weight.data.zero_()
    length = batch.model.text[0][0].model_max_length
    with torch.no_grad():
        return encoder(torch.full((1, length), 7788 % encoder.config.vocab_size))[0]


def composed(batch, index, net, nothing):
    """One row by arXiv 2307.12493: composed attention in steps 0 and 1, background in 0 to 2."""
    tokens, request = tokens_of_prompts(batch, index), batch.requests[index]
    pasted = pasted_reference(request, with_surroundings=True)

    def invert(latents):
        return inverted(latents, batch.steps, lambda x, step: net(x, step, nothing))

    source = invert(batch.source_latents[index : index + 1])
    reference = invert(batch.encode([own.picture for own in all_pasted(batch)])[index : index + 1])
    pool = torch.nn.AvgPool2d(2)
    shape, region = (pool(torch.from_numpy(own)[None])[0] for own in (pasted.shape, pasted.region))
    at_layer = inside(shape)[:, None]
    noise = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(100 + index))
    x = torch.where(region >= 0.5, noise, source[0])
    x = torch.where(shape >= 0.5, reference[0], x)
    for k, step in enumerate(batch.steps):
        kept = Kept(), Kept()
        for path, keep in zip((source, reference), kept, strict=True):
            net(path[k], step, nothing, keep)

        def rule(name, attn, query, key, value, kept=kept, k=k):
            if name.endswith("attn1") and k < 2:
                (q_s, k_s, _), (q_r, k_r, _) = (keep.parts[name] for keep in kept)
                query, key = torch.where(at_layer, q_r, q_s), torch.where(at_layer, k_r, k_s)
            return maps_of(attn, query, key) @ value

        eps = guided({name: net(x, step, tokens[name], rule) for name in tokens}, 5.0)
        x = ddim(x, eps, eps, step)
        if k < 3:
            x = torch.lerp(source[k + 1], x, region)
    return x


def tokens_of_prompts(batch, index):
    return {name: said.tokens_bsd[index : index + 1] for name, said in prompts_of(batch).items()}


def all_pasted(batch):
    return [pasted_reference(request, with_surroundings=True) for request in batch.requests]


def test_tf_icon_composes_noise_and_self_attention(sampled, net, checkpoint_of):
    batch, latents = sampled("tf_icon", tau_a=0.5, tau_b=0.75)
    nothing = exceptional(checkpoint_of("StableDiffusionPipeline"), batch)
    check(batch, latents, lambda index: composed(batch, index, net, nothing))
    _, other = sampled("tf_icon", tau_a=0.0, tau_b=0.75)
    assert float((latents - other).abs().max()) > 1e-3
    _, same = sampled("tf_icon", tau_a=0.5, tau_b=0.75, domain="same")
    assert float((latents - same).abs().max()) > 1e-3


def request(mask=None, **values):
    reference = np.full((20, 40, 3), 200, np.uint8)
    shape = np.zeros((20, 40), np.float32)
    shape[5:15, 10:15] = 1.0
    given = {"references": [reference], "reference_mask": shape, "boxes": None, **values}
    picture = np.zeros((32, 32, 3), np.uint8)
    return EditRequest(frame=None, picture=picture, mask=mask, values=given)


def test_a_reference_is_as_large_as_its_box_allows():
    mask = np.zeros((32, 32), np.float32)
    mask[8:28, 4:24] = 1.0
    pasted = pasted_reference(request(mask), with_surroundings=False)
    expected = np.zeros((32, 32), np.float32)
    expected[8:28, 9:19] = 1.0
    assert np.array_equal(pasted.shape, expected)
    assert np.array_equal(pasted.region, mask)
    assert np.array_equal(pasted.picture[..., 0], 200 * expected)


def test_a_box_says_where_a_reference_goes_without_a_mask():
    box = LabelledBox(None, 2.2, 4.0, 12.0, 30.0)
    pasted = pasted_reference(request(reference_mask=None, boxes=[box]), with_surroundings=True)
    assert pasted.region[4:30, 2:12].all()
    assert int(pasted.region.sum()) == 26 * 10
    assert pasted.shape.any(axis=0).sum() == 10
    assert pasted.shape.any(axis=1).sum() == 5


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"references": []}, "references_missing"),
        ({}, "boxes_missing"),
        ({"reference_mask": np.zeros((20, 40), np.float32)}, "mask_empty"),
    ],
)
def test_a_reference_without_a_place_or_a_shape_fails_the_row(values, code):
    with pytest.raises(RowError) as failed:
        pasted_reference(request(**values), with_surroundings=True)
    assert failed.value.code == code
