"""Self-Guidance, DragDiffusion and MagicRemover against their equations."""

from functools import partial

import diffusers
import pytest
import torch
from method_batches import batch_of, clean, guided
from method_cases import BATCH, STEPS, make, ready
from overpaint.operators.controls.word_properties import properties, share_inside
from overpaint.operators.controls.words import aligned_weights
from overpaint.pipeline.errors import RowError
from torch.nn import functional


@pytest.fixture
def sampled(checkpoint_of, row):
    """From a method and fields to the batch of some rows, and the latents that it makes."""

    def run(method, columns=None, **fields):
        edit = make(method, checkpoint_of, **fields)
        rows = [row(number, mask_image=None, **(columns or {})) for number in range(BATCH)]
        batch = batch_of(edit, ready(edit, rows))
        return batch, edit.settings.edited(batch)

    return run


class Net:
    """A plain diffusers UNet that keeps attention to tokens, features, keys and values."""

    def __init__(self, folder):
        self.unet = diffusers.UNet2DConditionModel.from_pretrained(f"{folder}/unet").eval()
        self.unet.requires_grad_(False)
        self.maps, self.features, self.kept = {}, {}, {}
        self.is_source, self.looking = False, ()
        for index, block in enumerate(self.unet.up_blocks):
            block.register_forward_hook(
                lambda _, __, output, index=index: self.features.update({index: output})
            )
        for name, part in self.unet.named_modules():
            if name.endswith(("attn1", "attn2")):
                part.processor = partial(self.attend, name)

    def attend(self, name, attn, hidden, encoder_hidden_states=None, *_, **__):
        context = hidden if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = attn.to_q(hidden), attn.to_k(context), attn.to_v(context)
        if name.endswith("attn1"):
            if self.is_source:
                self.kept[name] = (key, value)
            elif name in self.looking:
                key, value = self.kept[name]
        q, k, v = (attn.head_to_batch_dim(part) for part in (query, key, value))
        maps = torch.softmax(q @ k.transpose(1, 2) * attn.scale, dim=-1)
        if name.endswith("attn2"):
            self.maps[name] = maps.mean(dim=0)
        return attn.to_out[0](attn.batch_to_head_dim(maps @ v))

    def __call__(self, latents, step, tokens, is_source=False):
        self.is_source = is_source
        said = self.unet(latents, step.timestep, tokens).sample
        return said, dict(self.maps), dict(self.features)


@pytest.fixture(scope="module")
def net(checkpoint_of):
    return Net(checkpoint_of("StableDiffusionPipeline"))


def attention_to(maps, token):
    """The mean of the layers' attention hw to a token, on the latents' grid of 16 by 16."""
    grids = []
    for attention in maps.values():
        side = int(len(attention) ** 0.5)
        grid = attention[:, token].view(1, 1, side, side)
        grids.append(functional.interpolate(grid, (16, 16), mode="bilinear")[0, 0])
    return torch.stack(grids).mean(dim=0)


def stretched(a):
    return (a - a.min()) / (a.max() - a.min())


def wanted_and_own(text, source, feature, kept, shift):
    """The distances of centroid, size, shape and appearance, for an object that is shifted."""
    a, b = text, source.detach()
    outlines = [stretched(torch.sigmoid(10 * (stretched(each) - 0.5))) for each in (a, b)]
    middle = (torch.arange(16) + 0.5) / 16
    centroid = [
        torch.stack([(each * middle).sum(), (each * middle[:, None]).sum()]) / each.sum()
        for each in (a, b)
    ]
    looks = [
        (outline * own[0]).sum(dim=(1, 2)) / outline.sum()
        for outline, own in zip(outlines, (feature, kept.detach()), strict=True)
    ]
    moved = torch.zeros(16, 16)
    moved[:, shift:] = outlines[1][:, : 16 - shift]
    return (
        (centroid[0] - centroid[1] - torch.tensor([shift / 16, 0.0])).abs().sum(),
        (outlines[0].mean() - outlines[1].mean()).abs(),
        (outlines[0] - moved).abs().mean(),
        (looks[0] - looks[1]).abs().mean(),
    )


def token_of(batch, prompt, letter):
    from overpaint.operators.diffusion.prompts import token_ids

    return token_ids(batch.model, prompt).index(token_ids(batch.model, letter)[1])


def self_guidance(batch, index, net, scale):
    """One row by arXiv 2306.00986, guided in the first two steps, with a box for its words."""
    request = batch.requests[index]
    prompts = {"text": request.prompt, "negative": "", "source": request.values[PATH].prompt}
    tokens = {name: batch.prompts([prompt]).tokens_bsd for name, prompt in prompts.items()}
    path = batch.trajectory_sbchw[:, index : index + 1]
    x = path[0]
    for step in batch.steps:
        _, before, kept = net(path[step.index], step, tokens["source"], is_source=True)
        x = x.detach().requires_grad_()
        text, now, features = net(x, step, tokens["text"])
        own = attention_to(now, token_of(batch, prompts["text"], "x"))
        source = attention_to(before, token_of(batch, prompts["source"], "a"))
        terms = wanted_and_own(own, source, features[1], kept[1], shift=2)
        outside = 1 - own[4:10, 4:12].sum() / own.sum()
        energy = sum(terms) + 2 * outside**2
        (gradient,) = torch.autograd.grad(energy, x)
        with torch.no_grad():
            said = {"text": text, "negative": net(x, step, tokens["negative"])[0]}
            eps = guided(said, 7.5)
            if step.index < 2:
                eps = eps + scale * (1 - step.alpha_bar) ** 0.5 * gradient
            a, b = step.alpha_bar, step.alpha_bar_next
            x = b**0.5 * clean(x, eps, a) + (1 - b) ** 0.5 * eps
    return x


PATH = "inverted_path"


def test_self_guidance_is_the_papers(sampled, net):
    net.looking = ()
    prompts = {"source_prompt": "one a", "target_prompt": "one x", "mask_phrase": "a"}
    columns = {**prompts, "points": [[8, 12, 12, 12]]}
    columns["boxes"] = [{"label": "q", "box": [0, 0, 9, 9]}, {"label": "a", "box": [8, 8, 24, 20]}]
    batch, latents = sampled("self_guidance", columns, self_guidance_scale=30.0, inside_weight=2.0)
    for index in range(BATCH):
        expected = self_guidance(batch, index, net, 30.0)
        assert torch.allclose(latents[index : index + 1], expected, atol=1e-4)
    _, plain = sampled("self_guidance", columns, self_guidance_scale=0.0)
    assert float((plain - latents).abs().max()) > 1e-2


def test_self_guidance_without_a_scale_is_ddim(sampled):
    _, latents = sampled("self_guidance", self_guidance_scale=0.0)
    _, plain = sampled("ddim", strength=1.0, guidance_scale=7.5)
    assert torch.equal(latents, plain)


def test_properties_of_a_square_are_its_own():
    attention = torch.zeros(1, 1, 8, 16)
    attention[..., 2:4, 4:8] = 1.0
    feature = torch.stack([torch.full((8, 16), 3.0), torch.arange(16.0).expand(8, 16)])[None]
    seen = properties(attention, feature)
    assert torch.allclose(seen.centroid_b2, torch.tensor([[6 / 16, 3 / 8]]))
    assert torch.allclose(seen.size_b, torch.tensor([8 / 128]))
    assert torch.allclose(seen.appearance_bc, torch.tensor([[3.0, 5.5]]))
    region = torch.zeros(1, 1, 8, 16)
    region[..., :3, :] = 1.0
    assert torch.allclose(share_inside(attention, region), torch.tensor([0.5]))


def test_a_replaced_word_is_found_where_the_source_had_it(sampled):
    batch, _ = sampled("self_guidance", self_guidance_scale=0.0)
    model = batch.model
    source, target = aligned_weights(model, "one a", "one x", "a")
    assert source.nonzero().tolist() == [[token_of(batch, "one a", "a")]]
    assert target.nonzero().tolist() == [[token_of(batch, "one x", "x")]]
    source, target = aligned_weights(model, "one a", "one a x", "x")
    assert not source.any()
    assert target.nonzero().tolist() == [[token_of(batch, "one a x", "x")]]
    with pytest.raises(RowError) as failed:
        aligned_weights(model, "one a", "two x", "q")
    assert failed.value.code == "phrase_not_in_prompt"


def bilinear(feature, x, y):
    """A feature c of a map chw between pixels, and at the border beyond."""
    height, width = feature.shape[1:]
    x, y = float(x.clamp(0, width - 1)), float(y.clamp(0, height - 1))
    x0, y0 = min(int(x), width - 2), min(int(y), height - 2)
    across = [feature[:, row, x0].lerp(feature[:, row, x0 + 1], x - x0) for row in (y0, y0 + 1)]
    return across[0].lerp(across[1], y - y0)


def drag_diffusion(batch, index, net, count):
    """One row by arXiv 2306.14435: the latents after some steps of motion supervision."""
    tokens = batch.prompts([batch.requests[index].prompt]).tokens_bsd
    first, step = batch.trajectory_sbchw[:, index : index + 1][batch.steps[0].index], batch.steps[0]
    x = first.clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=0.01)
    points = torch.tensor(batch.requests[index].values["points"]).float() / 2
    start, goal = points[0, :2], points[0, 2:]
    place, seen = start, None
    window = [(dx, dy) for dy in range(-3, 4) for dx in range(-3, 4)]
    for _ in range(count):
        _, _, features = net(x, step, tokens)
        feature = functional.interpolate(features[1], (16, 16), mode="bilinear")[0]
        if seen is None:
            seen = feature.detach()
        else:
            around = [(place.floor() + torch.tensor(each)).clamp(0, 15) for each in window]
            wanted = bilinear(seen, *start)
            away = [(bilinear(feature.detach(), *at) - wanted).abs().sum() for at in around]
            place = around[int(torch.stack(away).argmin())]
        way = (goal - place).norm()
        if way < 2:
            break
        ahead = (goal - place) / way
        loss = 0.0
        for dx, dy in [(dx, dy) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
            at = place + torch.tensor([dx, dy])
            goal_feature = bilinear(feature.detach(), *at)
            loss = loss + (bilinear(feature, *(at + ahead)) - goal_feature).abs().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return x.detach()


def test_drag_diffusion_is_the_papers(sampled, net):
    net.looking = ()
    columns = {"points": [[9.0, 12.5, 22.0, 16.0]]}
    fields = {"strength": 1 / STEPS, "n_pix_step": 3, "start_layer": 1.0}
    batch, latents = sampled("drag_diffusion", columns, **fields)
    (step,) = batch.steps
    for index in range(BATCH):
        x = drag_diffusion(batch, index, net, 3)
        tokens = batch.prompts([batch.requests[index].prompt]).tokens_bsd
        with torch.no_grad():
            eps = net(x, step, tokens)[0]
        a, b = step.alpha_bar, step.alpha_bar_next
        expected = b**0.5 * clean(x, eps, a) + (1 - b) ** 0.5 * eps
        assert torch.allclose(latents[index : index + 1], expected, atol=1e-4)
    _, still = sampled("drag_diffusion", {"points": [[9.0, 12.5, 9.0, 12.5]]}, **fields)
    assert float((latents - still).abs().max()) > 1e-3


def test_drag_diffusion_of_nothing_is_ddim(sampled):
    columns = {"points": [[9, 12, 9, 12]], "source_prompt": "a b", "target_prompt": "a b"}
    _, latents = sampled("drag_diffusion", columns, n_pix_step=2, start_layer=1.0)
    _, plain = sampled("ddim", columns, guidance_scale=1.0, strength=0.7)
    assert torch.allclose(latents, plain, atol=1e-5)


def magic_remover(batch, index, net, scale):
    """One row by arXiv 2310.02848: what is attended to of its words is pushed out of the noise."""
    request = batch.requests[index]
    source = batch.prompts([request.prompt]).tokens_bsd
    token = token_of(batch, request.prompt, request.values["mask_phrase"])
    path = batch.trajectory_sbchw[:, index : index + 1]
    net.looking, last = (), batch.steps[-1]
    x = path[batch.steps[0].index]
    with torch.no_grad():
        seen = attention_to(net(path[last.index], last, source, is_source=True)[1], token)
    thing, peak = seen > 0.25 * seen.max(), None
    net.looking = [name for name, _ in net.unet.named_modules() if name.endswith("attn1")]
    for step in batch.steps:
        net(path[step.index], step, source, is_source=True)
        x = x.detach().requires_grad_()
        text, maps, _ = net(x, step, source)
        attention = attention_to(maps, token)
        peak = attention.max().detach() if peak is None else peak
        attention = attention * 15 / peak
        most = attention >= attention.detach().quantile(0.8)
        energy = ((attention - attention.min()) * most).square().mean()
        (gradient,) = torch.autograd.grad(energy, x)
        with torch.no_grad():
            negative = net(x, step, batch.prompts([""]).tokens_bsd)[0]
            eps = guided({"text": text, "negative": negative}, 7.5)
            a, b = step.alpha_bar, step.alpha_bar_next
            x = b**0.5 * clean(x, eps, a) + (1 - b) ** 0.5 * (eps - scale * gradient)
            x = torch.where(thing | most, x, path[step.index + 1])
    return x


def test_magic_remover_is_the_papers(sampled, net):
    batch, latents = sampled("magic_remover", energy_scale=5.0)
    for index in range(BATCH):
        expected = magic_remover(batch, index, net, 5.0)
        assert torch.allclose(latents[index : index + 1], expected, atol=1e-4)
    _, other = sampled("magic_remover", energy_scale=1e-9)
    assert float((latents - other).abs().max()) > 1e-3
