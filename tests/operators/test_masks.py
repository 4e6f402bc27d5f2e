"""Arithmetic of masks: boxes, components, holes, dilation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from overpaint.operators.framing import masks
from PIL import Image, ImageFilter


@given(radius=st.integers(0, 9), seed=st.integers(0, 99), is_region=st.booleans())
def test_dilation_is_that_of_pillow_for_masks_and_regions(radius, seed, is_region):
    rng = np.random.default_rng(seed)
    grey = rng.integers(0, 140, (24, 17), dtype=np.uint8)
    mask = masks.binarise(grey)
    expected = np.asarray(Image.fromarray(mask).filter(ImageFilter.MaxFilter(2 * radius + 1)))
    before = mask.copy()
    dilated = masks.dilate(mask > 0 if is_region else mask, radius)
    assert dilated.dtype == (np.bool_ if is_region else np.uint8)
    assert np.array_equal(dilated, expected > 0 if is_region else expected)
    assert np.array_equal(mask, before)


def test_half_and_more_may_change():
    assert masks.binarise(np.array([[0, 127, 128, 255]], np.uint8)).tolist() == [[0, 0, 255, 255]]


def test_largest_component_keeps_pixels_that_touch_at_a_corner():
    region = np.zeros((6, 6), dtype=bool)
    region[0, 0] = region[1, 1] = region[2, 2] = True
    region[5, 4:] = True
    assert masks.largest_component(region).sum() == 3
    assert masks.largest_component(np.zeros((3, 3), dtype=bool)).sum() == 0


def test_holes_are_filled_and_bays_are_not():
    region = np.zeros((7, 7), dtype=bool)
    region[1:6, 1:6] = True
    region[3, 3] = False
    region[1, 3] = False
    filled = masks.fill_holes(region)
    assert filled[3, 3]
    assert not filled[1, 3]
    assert not filled[0].any()
    assert masks.fill_holes(np.ones((3, 3), dtype=bool)).all()


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8])
def test_box_holds_what_is_marked_and_nothing_has_no_box(dtype):
    mask = np.zeros((9, 9), dtype=dtype)
    mask[2:4, 5:8] = 1
    assert masks.bounding_box(mask) == masks.Box(left=5, top=2, right=8, bottom=4)
    assert masks.bounding_box(np.zeros((2, 2), dtype=dtype)) is None
