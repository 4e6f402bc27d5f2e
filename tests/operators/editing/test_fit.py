"""`fit`, on tiny checkpoints of the real classes."""

import json

import numpy as np
import pytest
import torch
from method_cases import (
    BATCH,
    STEPS,
    few_steps,
    make,
    pixels,
    ready,
    sources_of,
    stages_before,
)
from overpaint.jobs.papercut.dataset import write_dataset
from overpaint.operators.controls.row_adam import RowAdam
from overpaint.operators.edit import Edit
from overpaint.operators.fit import Fit
from overpaint.operators.fits import FITS
from overpaint.operators.invert import Invert
from overpaint.pipeline.images import decode

SD = "StableDiffusionPipeline"


@pytest.fixture
def inverted(checkpoint_of, row):
    """Rows with their trajectories."""
    edit = make("ddim", checkpoint_of)
    return ready(edit, [row(number) for number in range(4)])


def values(answer):
    (value,) = answer.values()
    return value.tokens_ntd


@pytest.mark.parametrize("method", FITS.names())
def test_fit_row_depends_on_nothing_but_itself(method, checkpoint_of, inverted):
    fields = {"checkpoint": checkpoint_of(SD), "batch_size": BATCH, **few_steps(method)}
    operator = Fit(method=method, **fields)
    operator.check()
    model = operator.load()
    alone = values(operator.run(inverted[:1], model)[0])
    for batch, slot in (([0, 1, 2], 0), ([2, 1, 0], 2), ([3, 0, 2], 1)):
        together = operator.run([inverted[number] for number in batch], model)
        assert torch.equal(values(together[slot]), alone)


@pytest.mark.parametrize("method", FITS.names())
def test_fit_spends_what_it_states_where_it_never_stops_early(method, checkpoint_of, inverted):
    fields = {**few_steps(method), "early_stop_epsilon": 0.0}
    operator = Fit(method=method, checkpoint=checkpoint_of(SD), batch_size=BATCH, **fields)
    model = operator.load()
    before = model.spent
    operator.run(inverted[:BATCH], model)
    invert = Invert(checkpoint=checkpoint_of(SD), num_inference_steps=STEPS)
    stated = operator.cost(inverted[0], sources_of([invert]))
    assert model.spent.forward - before.forward == BATCH * stated.forward
    assert model.spent.backward - before.backward == BATCH * stated.backward


def test_null_text_keeps_guidance_by_the_source_on_the_source(tmp_path):
    """Strong guidance by the source prompt comes 5 dB nearer to the source with the fit."""
    write_dataset(tmp_path / "drawn", rows=2, seed=4)
    lines = (tmp_path / "drawn/rows.jsonl").read_text().splitlines()
    rows = [_papercut_row(tmp_path / "drawn", json.loads(line)) for line in lines]
    shared = {"checkpoint": "papercut", "batch_size": 2}
    for operator in (
        Invert(num_inference_steps=10, **shared),
        Fit(guidance_scale=7.5, num_inner_steps=5, learning_rate=0.1, **shared),
    ):
        answers = operator.run(rows, operator.load())
        rows = [{**row, **answer} for row, answer in zip(rows, answers, strict=True)]
    psnr = {}
    for method in ("prompt_to_prompt", "null_text"):
        fields = {"guidance_scale": 7.5, "strength": 1.0, "cross_replace_steps": 0.0}
        edit = Edit(method=method, **fields, **shared)
        edited = [pixels(answer).astype(float) for answer in edit.run(rows, edit.load())]
        sources = [decode(row["source_image"]).rgb for row in rows]
        error = np.mean([np.square(a - b).mean() for a, b in zip(edited, sources, strict=True)])
        psnr[method] = 10 * np.log10(255**2 / error)
    assert psnr["null_text"] > psnr["prompt_to_prompt"] + 5


def _papercut_row(folder, line):
    return {
        "source_image": (folder / line["source_uri"]).read_bytes(),
        "width_px": 64,
        "height_px": 64,
        "source_prompt": line["source_prompt"],
        "target_prompt": line["source_prompt"],
        "image_format": "png",
    }


def test_fit_stops_early_row_by_row(checkpoint_of, inverted):
    never = Fit(checkpoint=checkpoint_of(SD), batch_size=BATCH, early_stop_epsilon=0.0)
    at_once = Fit(checkpoint=checkpoint_of(SD), batch_size=BATCH, early_stop_epsilon=1e9)
    model = never.load()
    before = model.spent.backward
    at_once.run(inverted[:BATCH], model)
    assert model.spent.backward - before == BATCH * STEPS
    before = model.spent.backward
    never.run(inverted[:BATCH], model)
    assert model.spent.backward - before == BATCH * STEPS * 10


def test_null_text_edit_needs_the_stages_that_give_its_columns(checkpoint_of):
    edit = make("null_text", checkpoint_of)
    assert [type(stage) for stage in stages_before(edit)] == [Invert, Fit]


def test_row_adam_is_adam_and_keeps_rows_that_are_done():
    start, gradients = torch.randn(3, 2, 4), [torch.randn(3, 2, 4) for _ in range(5)]
    value = start.clone().requires_grad_()
    adam = torch.optim.Adam([value], lr=0.1)
    rows, made, reached = RowAdam(0.1), [start], [start]
    for step, gradient in enumerate(gradients):
        value.grad = gradient.clone()
        adam.step()
        reached.append(value.detach().clone())
        # The last row is done after two steps, when its moments are not zero.
        active = torch.tensor([True, True, step < 2])
        made.append(rows.step(made[-1], gradient, active))
    assert torch.allclose(made[-1][:2], reached[-1][:2], atol=1e-6)
    assert torch.allclose(made[2], reached[2], atol=1e-6)
    assert torch.equal(made[-1][2], made[2][2])
