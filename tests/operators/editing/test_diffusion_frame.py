"""What the model sees of a source, and how its answer comes back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from overpaint.operators.framing.frame import (
    UNET_SHAPES,
    Size,
    frame_crop,
    frame_whole,
    paste,
    view,
    view_mask,
)
from overpaint.operators.framing.masks import dilate, feather
from overpaint.operators.framing.region import picture_bucket
from PIL import Image

SIDES = st.integers(1, 90)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def box_mask(height, width, top, left, bottom, right):
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(64, 64, (64, 64)), (640, 480, (72, 56)), (1, 1, (64, 64)), (9000, 10, (88, 48))],
)
def test_shapes_nearest_proportions_at_about_equal_area(width, height, size):
    shape = UNET_SHAPES.nearest(width, height)
    assert UNET_SHAPES.pixels(shape, 64, 8) == size


def test_shapes_pixels_are_multiples():
    assert UNET_SHAPES.pixels(Size(9, 7), 256, 64) == (256, 256)
    assert UNET_SHAPES.pixels(Size(9, 7), 512, 64) == (576, 448)


@pytest.mark.parametrize(("fit", "bucket"), [("whole", (9, 7)), ("crop", None)])
def test_bucket_is_the_shape_nearest_to_the_rows_size(fit, bucket):
    row = {"width_px": 640, "height_px": 480, "source_image": b"not looked at"}
    assert picture_bucket(row, UNET_SHAPES, fit) == bucket


def test_frame_of_the_models_own_size_changes_no_byte():
    source = noise(64, 64)
    frame = frame_whole(64, 64, Size(64, 64))
    assert np.array_equal(view(frame, source), source)
    assert np.array_equal(paste(frame, source, 255 - source, None), 255 - source)


@settings(max_examples=60)
@given(width=SIDES, height=SIDES)
def test_paste_keeps_the_size_and_what_alpha_leaves(width, height):
    source = noise(height, width)
    frame = frame_whole(width, height, Size(24, 16))
    picture = view(frame, source)
    assert picture.shape == (16, 24, 3)
    assert np.array_equal(
        paste(frame, source, picture, np.zeros((height, width), np.uint8)), source
    )
    alpha = np.full((height, width), 255, np.uint8)
    flat = np.full_like(picture, 7)
    assert np.all(paste(frame, source, flat, alpha) == 7)


def test_paste_in_strips_is_paste_as_a_whole():
    source = noise(1300, 40)
    picture = noise(64, 32, seed=1)
    frame = frame_whole(40, 1300, Size(32, 64))
    x, y = frame.padding
    content = picture[y : y + frame.content.height_px, x : x + frame.content.width_px]
    whole = np.asarray(Image.fromarray(content).resize((40, 1300), Image.Resampling.LANCZOS))
    pasted = paste(frame, source, picture, None)
    assert np.abs(pasted.astype(int) - whole).max() <= 1


@settings(max_examples=60)
@given(data=st.data(), width=SIDES, height=SIDES)
def test_frame_crop_holds_the_mask(data, width, height):
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right = data.draw(st.integers(left + 1, width))
    bottom = data.draw(st.integers(top + 1, height))
    mask = box_mask(height, width, top, left, bottom, right)
    frame = frame_crop(mask, Size(32, 32), 0.25)
    assert frame.box[0] <= left
    assert frame.box[1] <= top
    assert frame.box[2] >= right
    assert frame.box[3] >= bottom
    assert view_mask(frame, mask).max() > 0


def test_frame_crop_of_a_small_mask_is_at_full_resolution():
    frame = frame_crop(box_mask(400, 400, 10, 380, 30, 395), Size(64, 64), 0.25)
    assert frame.scale == 1.0
    assert frame.box == (336, 0, 400, 64)


def test_frame_padding_repeats_the_edge_and_may_not_change():
    source = noise(10, 80)
    frame = frame_whole(80, 10, Size(88, 48))
    picture = view(frame, source)
    top = frame.padding[1]
    assert np.all(picture[:top] == picture[top])
    mask = view_mask(frame, np.full((10, 80), 255, np.uint8))
    assert mask[:top].max() == 0.0
    assert mask[top].min() == 1.0


@settings(max_examples=40)
@given(radius=st.integers(0, 9), width=st.integers(0, 12), seed=st.integers(0, 99))
def test_feather_stays_inside_and_reaches_full(radius, width, seed):
    mask = np.where(np.random.default_rng(seed).random((40, 30)) > 0.98, 255, 0).astype(np.uint8)
    grown = dilate(mask, radius)
    alpha = feather(grown, width)
    assert alpha[grown == 0].max(initial=0) == 0
    if radius >= 2 * (width // 2):
        assert alpha[mask == 255].min(initial=255) == 255


def test_dilation_is_by_a_square_of_that_radius():
    grown = dilate(box_mask(20, 20, 8, 9, 10, 11), 3)
    assert np.array_equal(grown, box_mask(20, 20, 5, 6, 13, 14))
    assert np.array_equal(dilate(box_mask(20, 20, 0, 0, 1, 1), 2), box_mask(20, 20, 0, 0, 3, 3))


@pytest.mark.parametrize(("thickness", "width"), [(4, 4), (5, 4), (12, 16)])
def test_feather_leaves_a_thin_part_half_through(thickness, width):
    thin = box_mask(60, 80, 5, 10, 5 + thickness, 70)
    thick = box_mask(60, 80, 25, 10, 58, 70)
    alpha = feather(thin | thick, width)
    assert set(alpha[thin == 255].tolist()) == {128}
    assert alpha[thick == 255].max() == 255
    assert alpha[(thin | thick) == 0].max() == 0


def test_feather_full_mask_has_no_rim():
    assert feather(np.full((9, 9), 255, np.uint8), 6).min() == 255
