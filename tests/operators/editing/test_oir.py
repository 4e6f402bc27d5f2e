"""Object-aware inversion and reassembly: its search, its regions, and its paper's steps."""

import numpy as np
import pytest
import torch
from method_batches import batch_of, clean, guided
from method_cases import make, ready
from overpaint.operators.controls import object_search
from overpaint.operators.controls.object_search import Replacement, best_level, object_alone
from overpaint.operators.framing.conditions import EditConcept, LabelledBox
from overpaint.pipeline.errors import RowError

ADD, REMOVE = EditConcept("red cup"), EditConcept("teal star", reverse=True)


def test_objects_are_pairs_of_phrases():
    assert object_search.replacements([ADD, REMOVE]) == [("red cup", "teal star")]
    for wrong in ([ADD], [REMOVE, ADD], [ADD, ADD]):
        with pytest.raises(RowError) as raised:
            object_search.replacements(wrong)
        assert raised.value.code == "edit_concepts_invalid"


def test_prompt_of_an_object_has_its_change_alone():
    change = Replacement("red cup", "teal star")
    assert change.in_prompt("a teal star by a box", "-") == "a red cup by a box"
    assert change.in_prompt("a box", "all changed") == "all changed"


def test_region_is_the_labelled_box_or_the_mask(checkpoint_of, row):
    edit = make("oir", checkpoint_of)
    (request,) = batch_of(edit, ready(edit, [row(0)])).requests
    change = Replacement("red cup", "teal star")
    assert np.array_equal(object_search.region(request, change), request.mask)
    request.values["boxes"] = [LabelledBox("teal star", 2, 4, 6, 9), LabelledBox("x", 0, 0, 3, 3)]
    place = object_search.region(request, change)
    assert place.sum() == 4 * 5
    assert place[4:9, 2:6].all()


def test_search_takes_what_says_the_phrase_and_keeps_the_rest():
    source = np.zeros((4, 4, 3), np.uint8)
    place = np.zeros((4, 4), np.float32)
    place[:2] = 1.0
    same, inside, outside = (np.zeros((4, 4, 3), np.float32) for _ in range(3))
    inside[:2], outside[2:] = 200.0, 200.0
    assert best_level([same, inside], [0.2, 0.3], source, place) == 1
    assert best_level([inside, outside], [0.2, 0.2], source, place) == 0
    assert best_level([same, same], [0.2, 0.2], source, place) == 0
    crop = np.asarray(object_alone(inside, place))
    assert crop.shape == (2, 4, 3)
    assert (crop == 200).all()


def test_latents_are_those_of_the_papers_steps(checkpoint_of, row, monkeypatch):
    """Search, reassembly and re-inversion for one object, with a scorer that takes the second."""
    monkeypatch.setattr(object_search, "best_levels", lambda batch, *_: [1] * len(batch.requests))
    fields = {"reassembly_step": 0.25, "reinversion_steps": 0.5, "num_candidates": 3}
    edit = make("oir", checkpoint_of, guidance_scale=2.0, **fields)
    source = ready(edit, [row(0)])
    batch = batch_of(edit, source)
    path, steps = batch.trajectory_sbchw, batch.schedule.steps
    assert edit.settings.levels(4) == [2, 3, 4]
    prompts = {"text": batch.prompts(["target x"]), "negative": batch.prompts(["source a"])}

    def walk(x, some):
        for step in some:
            eps = guided(batch.predict(x, step, prompts), 2.0)
            level = step.alpha_bar_next
            x = level**0.5 * clean(x, eps, step.alpha_bar) + (1 - level) ** 0.5 * eps
            x = path[step.index + 1] + batch.mask_b1hw * (x - path[step.index + 1])
        return x

    x = path[3] + batch.mask_b1hw * (walk(path[1], steps[1:3]) - path[3])
    for step in (steps[2], steps[1]):
        eps = batch.predict(x, step, {"source": prompts["negative"]})["source"]
        x0 = clean(x, eps, step.alpha_bar_next)
        x = step.alpha_bar**0.5 * x0 + (1 - step.alpha_bar) ** 0.5 * eps
    assert torch.allclose(edit.settings.edited(batch), walk(x, steps[1:]), atol=1e-4)


def test_weights_of_clip_are_a_part_of_the_identity(checkpoint_of):
    assert set(make("oir", checkpoint_of).revisions()) == {"checkpoint", "clip_checkpoint"}
