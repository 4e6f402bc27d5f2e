"""Mask finders that ask an editor's model, each on every kind of checkpoint that it takes."""

import numpy as np
import pytest
from method_cases import make
from overpaint.operators.controls.latent_finder import LatentFinder
from overpaint.operators.finders import FINDERS
from overpaint.operators.mask import Mask
from overpaint.pipeline.images import decode_mask
from running import failure_code

BATCH = 3
CASES = [
    f"{name}-{pipeline}"
    for name in FINDERS.names()
    if issubclass(FINDERS.find(name), LatentFinder)
    for pipeline in FINDERS.find(name).pipelines
]


@pytest.fixture(params=CASES)
def finder(request, checkpoint_of):
    name, pipeline = request.param.split("-")
    few = {"resolution": 32, "num_inference_steps": 4, "batch_size": BATCH}
    if "points_per_side" in FINDERS.find(name).model_fields:
        few["points_per_side"] = 8
    return Mask(method=name, checkpoint=checkpoint_of(pipeline), **few)


def editor_of(model):
    """The editor's model, of a finder that has another one beside it."""
    return getattr(model, "editor", model)


def test_mask_of_a_row_depends_on_nothing_but_itself(finder, row):
    finder.check()
    model = finder.load()
    rows = [row(number, height=40, width=33) for number in range(4)]
    alone = finder.run(rows[:1], model)[0]
    mask = decode_mask(alone["mask_image"], 33, 40)
    assert 0 < np.mean(mask > 0) < 1
    assert alone["mask_source"] == finder.method
    for batch, slot in (([0, 1, 2], 0), ([2, 1, 0], 2), ([3, 0, 2], 1)):
        together = finder.run([rows[number] for number in batch], model)
        assert together[slot] == alone


def test_finder_spends_what_it_states(finder, row):
    model = finder.load()
    editor = editor_of(model)
    editor.prompts.clear()
    before = editor.spent.counts()
    finder.run([row(number) for number in range(BATCH)], model)
    spent = {kind: n - before.get(kind, 0) for kind, n in editor.spent.counts().items()}
    stated = {kind: BATCH * n for kind, n in finder.cost({}, {}).counts().items()}
    stated.pop("text")
    assert {kind: n for kind, n in spent.items() if n and kind != "text"} == stated
    assert spent["text"] == len(editor.prompts)


def test_row_without_its_prompt_fails_with_a_code(finder, row):
    given = row(0, **{finder.finder.prompt.name: None})
    assert failure_code(finder, given) == "prompt_missing"


def test_seed_and_prompt_decide_the_mask(finder, row):
    model = finder.load()
    prompt = finder.finder.prompt.name
    rows = [row(0), row(0, seed=7), row(0, **{prompt: "quite another one"})]
    masks = [answer["mask_image"] for answer in finder.run(rows, model)]
    assert len(set(masks)) == BATCH


def test_editor_of_the_same_checkpoint_shares_the_model(checkpoint_of):
    pipeline = "StableDiffusionPipeline"
    edit = make(f"ddim-{pipeline}", checkpoint_of)
    finder = Mask(method="noise_difference", checkpoint=checkpoint_of(pipeline))
    assert finder.load() is edit.load()[""]
