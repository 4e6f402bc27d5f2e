"""FEC, TIC, InjectFusion and TF-ICON against their equations."""

import pytest
import torch
from method_batches import batch_of, guided, prompts_of
from method_cases import BATCH, make, ready
from plain_unet import Kept, PlainUNet, ddim, inside, maps_of


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
