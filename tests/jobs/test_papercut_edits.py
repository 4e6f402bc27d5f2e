"""The 12 edit types: visible, inside their mask, fully said in words, of the right split."""

import numpy as np
import pytest
from overpaint.jobs.papercut.draw import draw
from overpaint.jobs.papercut.edits import sample_draft, sample_edit
from overpaint.jobs.papercut.sample import split_of
from overpaint.jobs.papercut.thing_edits import centre_of, resized_px
from overpaint.jobs.papercut.views import layout_boxes
from overpaint.jobs.papercut.words import LEXICON, captions
from overpaint.pipeline.edit_types import EDIT_TYPES

SEEDS = range(40)


@pytest.fixture(scope="module", params=EDIT_TYPES)
def edits(request):
    return [sample_edit(seed, request.param) for seed in SEEDS]


def test_target_differs_visibly_and_only_inside_the_mask(edits):
    for edit in edits:
        before, after = (np.asarray(draw(scene), float) for scene in (edit.source, edit.target))
        assert ((before - after) ** 2).mean() / 255**2 >= 0.005
        assert edit.mask.shape == (64, 64)
        assert edit.mask.dtype == np.uint8
        assert set(np.unique(edit.mask)) <= {0, 255}
        assert not (before != after).any(axis=2)[edit.mask == 0].any()


def test_instructions_use_only_the_lexicon_and_are_several(edits):
    for edit in edits:
        assert edit.instruction in edit.phrasings
        assert len(set(edit.phrasings)) >= 2
        words = " ".join(edit.phrasings).replace(",", " ").split()
        assert set(words) <= LEXICON
    assert len({edit.instruction for edit in edits}) > len(edits) // 4


def test_prompts_are_the_first_captions_and_differ(edits):
    for edit in edits:
        assert edit.source_prompt == captions(edit.source)[0]
        assert edit.target_prompt == captions(edit.target)[0]
        assert edit.source_prompt != edit.target_prompt


def test_training_edits_show_no_test_content(edits):
    assert {split_of(edit.source) for edit in edits} == {"train"}
    assert {split_of(edit.target) for edit in edits} == {"train"}


def test_same_instruction_on_the_same_source_gives_the_same_target(edits):
    known = {}
    for edit in edits:
        key = (edit.source, edit.instruction)
        assert known.setdefault(key, edit.target) == edit.target


@pytest.mark.parametrize("edit_type", EDIT_TYPES)
def test_test_edits_start_from_test_content(edit_type):
    assert split_of(sample_edit(1, edit_type, "test").source) == "test"


@pytest.mark.parametrize("edit_type", EDIT_TYPES)
def test_sample_edit_twice_gives_the_same_edit(edit_type):
    first, second = sample_edit(7, edit_type), sample_edit(7, edit_type)
    assert (first.source, first.target, first.instruction) == (
        second.source,
        second.target,
        second.instruction,
    )


def test_color_changes_one_colour_and_nothing_else():
    for seed in SEEDS:
        edit = sample_edit(seed, "color")
        pairs = list(zip(edit.source.things, edit.target.things, strict=True))
        changed = [(old, new) for old, new in pairs if old != new]
        assert len(changed) == 1
        old, new = changed[0]
        assert (old.kind, old.texture, old.radius_px) == (new.kind, new.texture, new.radius_px)
        assert edit.mask_phrase == f"{old.colour} {old.kind}"
        assert new.colour in edit.instruction.split()


def test_replace_keeps_place_and_size_and_changes_kind_and_colour():
    for seed in SEEDS:
        edit = sample_edit(seed, "replace")
        pairs = zip(edit.source.things, edit.target.things, strict=True)
        old, new = next((a, b) for a, b in pairs if a != b)
        assert (old.x_px, old.y_px, old.radius_px) == (new.x_px, new.y_px, new.radius_px)
        assert old.kind != new.kind
        assert old.colour != new.colour
        assert new.texture == "plain"
        assert old.radius_px >= 13


def test_move_goes_where_the_instruction_says():
    for seed in SEEDS:
        edit = sample_edit(seed, "move")
        pairs = zip(edit.source.things, edit.target.things, strict=True)
        old, new = next((a, b) for a, b in pairs if a != b)
        position = edit.phrasings[0].split(" to the ")[1]
        assert (new.x_px, new.y_px) == centre_of(position, old.radius_px)
        assert edit.drag_points == ((old.x_px, old.y_px, new.x_px, new.y_px),)
        assert edit.boxes == layout_boxes(edit.target)


def test_resize_has_one_factor_a_direction():
    for seed in SEEDS:
        edit = sample_edit(seed, "resize")
        pairs = zip(edit.source.things, edit.target.things, strict=True)
        old, new = next((a, b) for a, b in pairs if a != b)
        is_bigger = "bigger" in edit.phrasings[0]
        assert new.radius_px == resized_px(old.radius_px, is_bigger=is_bigger)


def test_pose_drags_every_joint():
    edit = sample_edit(3, "pose")
    assert edit.drag_points is not None
    assert len(edit.drag_points) == 11


@pytest.mark.parametrize("edit_type", EDIT_TYPES)
def test_draft_is_what_is_drawn_of_the_edit(edit_type):
    edit, draft = sample_edit(5, edit_type), sample_draft(5, edit_type)
    assert (draft.source, draft.target) == (edit.source, edit.target)
    assert (draft.phrasings, draft.drag_points) == (edit.phrasings, edit.drag_points)
    assert (draft.mask == edit.mask).all()
