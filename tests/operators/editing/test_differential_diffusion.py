"""Differential Diffusion against its paper's algorithm, and against SDEdit."""

import io

import numpy as np
import pytest
import torch
from method_batches import averaged, batch_of, clean, guided, latents_of, prompts_of
from method_cases import BATCH, STEPS, make
from overpaint.operators.methods import METHODS
from PIL import Image


def grey_png(value):
    out = io.BytesIO()
    Image.new("L", (32, 32), value).save(out, "PNG")
    return out.getvalue()


def algorithm_1(batch, strength_b1hw, scale):
    """Algorithm 1 of arXiv 2306.00950, with a strength of 1 where all may change."""
    z, noise, prompts = batch.source_latents, batch.noise, prompts_of(batch)
    levels = [step.alpha_bar for step in batch.steps] + [batch.steps[-1].alpha_bar_next]
    x = levels[0] ** 0.5 * z + (1 - levels[0]) ** 0.5 * noise
    for k, step in enumerate(batch.steps):
        eps = guided(batch.predict(x, step, prompts), scale)
        after = levels[k + 1]
        x = after**0.5 * clean(x, eps, levels[k]) + (1 - after) ** 0.5 * eps
        known = after**0.5 * z + (1 - after) ** 0.5 * noise
        x = torch.where(strength_b1hw > 1 - (k + 1) / len(batch.steps), x, known)
    return x


@pytest.mark.parametrize("pipeline", METHODS.find("differential_diffusion").checkpoints)
def test_latents_are_those_of_the_papers_algorithm(pipeline, checkpoint_of, row):
    edit = make(f"differential_diffusion-{pipeline}", checkpoint_of, guidance_scale=3.0)
    rows = [row(number, mask_image=None) for number in range(BATCH)]
    batch = batch_of(edit, rows)
    maps = [np.asarray(Image.open(io.BytesIO(r["strength_map_image"]))) for r in rows]
    expected = algorithm_1(batch, averaged(maps), scale=3.0)
    assert torch.allclose(latents_of(edit, batch), expected, atol=1e-4)


def test_strengths_of_one_batch_are_each_rows_own(checkpoint_of, row):
    edit = make("differential_diffusion", checkpoint_of)
    rows = [row(n, mask_image=None, strength_map_image=grey_png(g)) for n, g in enumerate((0, 96))]
    batch = batch_of(edit, rows)
    latents = latents_of(edit, batch)
    source = batch.source.at(batch.steps[-1].alpha_bar_next)
    assert torch.equal(latents[0], source[0]), "black keeps the source"
    assert not torch.allclose(latents[1], source[1], atol=1e-2)


# 191 / 255 is a little under 3/4, and so comes up at the step at which 3/4 does.
@pytest.mark.parametrize(("grey", "num_steps"), [(255, STEPS), (191, 3), (63, 1)])
def test_map_of_one_value_is_sdedit_of_that_strength(grey, num_steps, checkpoint_of, row):
    rows = [row(n, mask_image=None, strength_map_image=grey_png(grey)) for n in range(BATCH)]
    fields = {"guidance_scale": 3.0}
    edit = make("differential_diffusion", checkpoint_of, **fields)
    sdedit = make("sdedit", checkpoint_of, strength=num_steps / STEPS, **fields)
    made = edit.run(rows, edit.load())
    expected = sdedit.run(rows, sdedit.load())
    assert [r["edited_image"] for r in made] == [r["edited_image"] for r in expected]


def test_row_without_a_map_is_refused_in_words_and_its_neighbours_are_not(checkpoint_of, row):
    edit = make("differential_diffusion", checkpoint_of)
    rows = [row(0), row(1, strength_map_image=None), row(2)]
    answers = edit.run(rows, edit.load())
    assert answers[1].code == "strength_map_missing"
    assert "the method needs strength_map" in answers[1].message
    assert "edited_image" in answers[0]
    assert "edited_image" in answers[2]
