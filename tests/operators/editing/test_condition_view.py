"""Conditions that are aligned with the source stay on the same pixels as its mask."""

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from overpaint.operators.framing.conditions import condition_view
from overpaint.operators.framing.frame import Size, frame_crop, frame_whole, view_mask
from overpaint.pipeline import conditions
from overpaint.pipeline.errors import RowError
from PIL import Image

ANY_FRAME = frame_whole(9, 9, Size(9, 9))
RED, BLUE = (220, 30, 30), (30, 30, 220)


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(out, "PNG")
    return out.getvalue()


def two_colours(mask):
    """RED where a mask is white and BLUE elsewhere."""
    return np.where(mask[..., None] == 255, np.uint8(RED), np.uint8(BLUE))


def centre(weights):
    """The mean x and y of what weighs."""
    y, x = np.indices(weights.shape)
    return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


def raised_to(pixels, factor):
    return np.kron(pixels, np.ones((factor, factor, *[1] * (pixels.ndim - 2)), np.uint8))


@st.composite
def masked_frames(draw):
    """A mask of one box, and a frame of its source: whole, or cropped around the mask."""
    width, height = draw(st.integers(8, 90)), draw(st.integers(8, 90))
    left, top = draw(st.integers(0, width - 4)), draw(st.integers(0, height - 4))
    right = draw(st.integers(left + 4, width))
    bottom = draw(st.integers(top + 4, height))
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = 255
    size = draw(st.sampled_from([Size(32, 32), Size(40, 24), Size(64, 64)]))
    if draw(st.booleans()):
        return mask, frame_crop(mask, size, 0.25), (left, top, right, bottom)
    return mask, frame_whole(width, height, size), (left, top, right, bottom)


@settings(max_examples=60, deadline=None)
@given(masked_frames(), st.sampled_from([1, 2, 3]))
def test_condition_pictures_are_on_the_same_pixels_as_the_mask(case, factor):
    mask, frame, (left, top, right, bottom) = case
    share = view_mask(frame, mask)
    x, y = frame.padding
    inside = np.zeros(share.shape, bool)
    inside[y : y + frame.content.height_px, x : x + frame.content.width_px] = True
    row = {
        "sketch_image": png(raised_to(two_colours(mask), factor)),
        "segmentation_image": png(raised_to(two_colours(mask), factor)),
        "strength_map_image": png(raised_to(mask, factor)),
    }

    place = frame.to_view([(left + right) / 2, (top + bottom) / 2]) - 0.5

    # Filters ring or round an edge to whole pixels, so by at most half of one, and move nothing.
    def offset(weights):
        return np.abs(centre(weights * inside) - place).max()

    assert offset(share) < 0.51
    sketch = condition_view(frame, conditions.SKETCH, row)
    assert offset((sketch[..., 0] - 30.0) / (RED[0] - BLUE[0])) < 0.25

    labels = condition_view(frame, conditions.SEGMENTATION, row)
    assert {tuple(colour) for colour in labels.reshape(-1, 3).tolist()} <= {RED, BLUE}
    assert offset(labels[..., 0] == RED[0]) < 0.51

    strengths = condition_view(frame, conditions.STRENGTH_MAP, row)
    assert offset(strengths) < 0.51
    assert factor > 1 or np.array_equal(strengths, share)


@settings(max_examples=60, deadline=None)
@given(masked_frames())
def test_condition_boxes_and_points_are_on_the_same_pixels_as_the_mask(case):
    mask, frame, (left, top, right, bottom) = case
    row = {
        "boxes": [{"label": "star", "box": [left, top, right, bottom]}],
        "points": [[left, top, right, bottom]],
    }
    (box,) = condition_view(frame, conditions.BOXES, row)
    rows, columns = np.nonzero(view_mask(frame, mask))
    edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert np.abs(np.subtract(box[1:], edges)).max() < 1
    (point,) = condition_view(frame, conditions.POINTS, row)
    assert np.allclose(point, box[1:])
    assert box.label == "star"


def test_condition_box_that_the_crop_cuts_is_clipped_and_one_outside_is_left_out():
    mask = np.zeros((100, 100), np.uint8)
    mask[40:60, 40:60] = 255
    frame = frame_crop(mask, Size(32, 32), 0.25)
    row = {"boxes": [{"label": "a", "box": [0, 45, 50, 55]}, {"label": "b", "box": [0, 0, 9, 9]}]}
    (box,) = condition_view(frame, conditions.BOXES, row)
    assert box == ("a", 0.0, 11.0, 16.0, 21.0)


@pytest.mark.parametrize(
    "box",
    [None, [], [1, 2, 3], [3, 1, 2, 9], [1, 5, 2, 5], [0, 0, 1, math.nan], [0, 0, None, 1]],
)
def test_condition_box_without_an_area_is_invalid(box):
    with pytest.raises(RowError) as raised:
        condition_view(
            frame_whole(9, 9, Size(9, 9)),
            conditions.BOXES,
            {"boxes": [{"label": None, "box": box}]},
        )
    assert raised.value.code == "boxes_invalid"


def test_condition_concepts_keep_their_numbers_and_leave_the_rest_to_the_recipe():
    entries = [{"prompt": "a hat", "guidance_scale": 3.0}, {"prompt": "rain", "reverse": True}]
    hat, rain = condition_view(ANY_FRAME, conditions.EDIT_CONCEPTS, {"edit_concepts": entries})
    assert (hat.prompt, hat.reverse, hat.guidance_scale) == ("a hat", False, 3.0)
    assert (rain.prompt, rain.reverse, rain.guidance_scale) == ("rain", True, None)
    assert condition_view(ANY_FRAME, conditions.EDIT_CONCEPTS, {"edit_concepts": []}) is None


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {"prompt": " "},
        {"prompt": "a", "guidance_scale": -1.0},
        {"prompt": "a", "threshold": math.nan},
        {"prompt": "a", "weight": math.inf},
        {"prompt": "a", "warmup": 1.5},
        {"prompt": "a", "cooldown": -0.5},
    ],
)
def test_condition_concept_out_of_bounds_is_invalid(entry):
    with pytest.raises(RowError) as raised:
        condition_view(ANY_FRAME, conditions.EDIT_CONCEPTS, {"edit_concepts": [entry]})
    assert raised.value.code == "edit_concepts_invalid"


@pytest.mark.parametrize("point", [None, [1, 2], [1, 2, 3, math.inf], [1, 2, 3, 4, 5]])
def test_condition_point_that_is_not_a_drag_is_invalid(point):
    with pytest.raises(RowError) as raised:
        condition_view(frame_whole(9, 9, Size(9, 9)), conditions.POINTS, {"points": [point]})
    assert raised.value.code == "points_invalid"


def test_condition_references_keep_their_size_and_lose_their_transparency():
    opaque = two_colours(np.eye(6, 9, dtype=np.uint8) * 255)
    cutout = np.zeros((5, 4, 4), np.uint8)
    cutout[:2] = (*RED, 255)
    row = {
        "reference_images": [png(opaque), png(cutout)],
        "reference_mask_image": png(np.eye(6, 9) * 255),
    }
    frame = frame_whole(30, 20, Size(32, 32))
    first, second = condition_view(frame, conditions.REFERENCES, row)
    assert np.array_equal(first, opaque)
    assert (second[:2] == RED).all()
    assert (second[2:] == 255).all()
    mask = condition_view(frame, conditions.REFERENCE_MASK, row)
    assert np.array_equal(mask, np.eye(6, 9, dtype=np.float32))


@pytest.mark.parametrize("name", conditions.CONDITIONS)
def test_condition_that_a_row_lacks_is_none(name):
    condition = conditions.CONDITIONS[name]
    frame = frame_whole(9, 9, Size(9, 9))
    assert condition_view(frame, condition, {}) is None
    assert condition_view(frame, condition, {condition.column.name: None}) is None


@settings(max_examples=60, deadline=None)
@given(masked_frames(), st.integers(0, 2**32 - 1))
def test_frame_to_source_undoes_to_view(case, seed):
    _, frame, _ = case
    places = np.random.default_rng(seed).uniform(-20, 120, (7, 2))
    assert np.allclose(frame.to_source(frame.to_view(places)), places)
    left, top, right, bottom = frame.box
    corners = frame.to_view([[left, top], [right, bottom]])
    assert np.allclose(corners[0], frame.padding)
    assert np.allclose(corners[1] - corners[0], frame.content)
