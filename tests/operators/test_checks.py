"""Checks of what an edit was to do: objects, colours, texts."""

import numpy as np
import pytest
from overpaint.jobs.papercut.draw import draw_pixels
from overpaint.jobs.papercut.edits import sample_edit
from overpaint.operators.check_color import CheckColor
from overpaint.operators.check_object import CheckObject
from overpaint.operators.check_text import CheckText, text_check
from overpaint.operators.measures.color_names import asked_color, color_shares
from overpaint.operators.measures.edit_words import quoted, words_of
from overpaint.pipeline.images import Picture, encode, encode_mask
from running import outcomes

SEEDS = range(24)


def row(edit, edited=None, **more) -> dict:
    return {
        "source_image": encode(Picture(draw_pixels(edit.source))),
        "edited_image": encode(Picture(draw_pixels(edited or edit.target))),
        "mask_image": encode_mask(np.asarray(edit.mask)),
        "instruction": edit.instruction,
        "edit_type": edit.edit_type,
        "mask_phrase": edit.mask_phrase or None,
        **more,
    }


@pytest.mark.parametrize("kind", ["add", "remove", "replace"])
def test_papercuts_finder_tells_true_edits_from_none(kind):
    edits = [sample_edit(seed, kind, "test") for seed in SEEDS]
    operator = CheckObject()
    model = operator.load()
    done = outcomes(operator, [row(edit) for edit in edits], model)
    undone = outcomes(operator, [row(edit, edited=edit.source) for edit in edits], model)
    right = [found["object_check"] for found in done]
    wrong = [found["object_check"] for found in undone]
    assert sum(check is not None for check in right) >= 20
    assert sum(check == 1 for check in right) >= 18
    assert sum(check == 1 for check in wrong) <= 3


def test_other_types_and_rows_without_words_are_not_checked():
    edit = sample_edit(0, "remove", "test")
    wordless = {"instruction": None, "mask_phrase": None}
    given = [row(edit, edit_type="style"), row(edit, **wordless), row(edit)]
    other, silent, checked = outcomes(CheckObject(), given)
    assert set(other.values()) == set(silent.values()) == {None}
    assert checked["old_object_before"] > 0.5 > checked["old_object_after"]
    assert checked["new_object_after"] is None


def test_boxes_of_a_detector_count_inside_the_mask(owlvit):
    import torch
    from transformers import OwlViTForObjectDetection, OwlViTProcessor

    edit = sample_edit(1, "remove", "test")
    given = row(edit, mask_phrase="cat")
    whole = {**given, "mask_image": None}
    operator = CheckObject(checkpoint=owlvit, threshold=0.1)
    found, everywhere = outcomes(operator, [given, whole])
    model, processor = (
        kind.from_pretrained(owlvit) for kind in (OwlViTForObjectDetection, OwlViTProcessor)
    )
    inputs = processor(images=draw_pixels(edit.source), text=[["cat"]], return_tensors="pt")
    with torch.inference_mode():
        logits = model(**inputs).logits
    assert everywhere["old_object_before"] == pytest.approx(float(logits.sigmoid().max()), abs=1e-3)
    assert 0 <= found["old_object_before"] <= everywhere["old_object_before"]
    nowhere = {**given, "mask_image": encode_mask(np.zeros((64, 64), np.uint8))}
    (nothing,) = outcomes(operator, [nowhere])
    assert nothing["old_object_before"] == 0
    assert nothing["object_check"] is None


def test_words_come_from_columns_and_else_from_the_instruction():
    assert words_of({"instruction": "replace the cat with a dog"}) == ("replace", "cat", "dog")
    named = {"instruction": "do it", "edit_type": "add", "target_class": "red hat"}
    assert words_of(named) == ("add", None, "red hat")
    assert words_of({}) == (None, None, None)


def test_colours_of_drawn_things_are_named():
    edits = [sample_edit(seed, "color", "test") for seed in SEEDS]
    done = outcomes(CheckColor(), [row(edit) for edit in edits])
    undone = outcomes(CheckColor(), [row(edit, edited=edit.source) for edit in edits])
    assert sum(found["color_check"] == 1 for found in done) >= 22
    assert sum(found["color_check"] == 1 for found in undone) == 0
    assert all(found["dominant_color"] for found in done)
    other = sample_edit(0, "remove", "test")
    (found,) = outcomes(CheckColor(), [row(other)])
    assert found["color_check"] is found["color_share"] is None
    assert found["dominant_color"]


def test_colours_are_named_by_the_nearest_typical_one():
    pixels = np.array([[200, 30, 40]] * 3 + [[250, 250, 250]], np.uint8)
    shares = color_shares(pixels)
    assert (shares["red"], shares["white"], shares["blue"]) == (0.75, 0.25, 0)
    assert color_shares(pixels[:0]) == {}
    asked = ["make the red car dark navy", "grey", "a crimson hat", "make it happy", None]
    assert [asked_color(text) for text in asked] == ["blue", "gray", "red", None, None]


@pytest.mark.parametrize(
    ("instruction", "before", "after", "check"),
    [
        ('change "SALE" to "OPEN"', "big sale", "Open!", 1),
        ('change "SALE" to "OPEN"', "big sale", "SALE open", 0),
        ('change "SALE" to "OPEN"', "big sale", "opem", 0),
        ('change "SALE" to "OPEN"', "nothing", "open", None),
        ("write 'hello you' on the wall", "", "HELLO, you", 1),
        ("write 'hello' on the wall", "", "hell", 0),
        ('remove the "EXIT" sign', "exit", "", 1),
        ('remove the "EXIT" sign', "exit", "e x i t", 0),
        ("make the dog's ears blue", "dog", "dog", None),
        (None, "", "", None),
    ],
)
def test_texts_are_checked_by_what_is_quoted(instruction, before, after, check):
    assert text_check({"instruction": instruction}, before, after) == check


def test_quoted_texts_are_told_from_apostrophes():
    assert quoted("turn \u201cA b\u201d into 'c'") == ["A b", "c"]
    assert quoted("the dog's and the cat's") == []


def test_texts_are_read_by_an_image_to_text_model(captioner):
    edit = sample_edit(0, "color", "test")
    given = [row(edit, instruction='write "zzz"'), row(edit, edited=edit.source)]
    operator = CheckText(checkpoint=captioner, max_new_tokens=6, batch_size=2)
    first, second = outcomes(operator, given)
    assert first["text_before"] == second["text_before"] == second["text_after"]
    assert first["text_before"]
    assert (first["text_check"], second["text_check"]) == (0, None)
