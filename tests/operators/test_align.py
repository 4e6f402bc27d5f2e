"""Alignment, against pictures whose shift, scale and rotation are known."""

import math

import numpy as np
import pytest
import skimage.data
from overpaint.jobs.bench.align import (
    auc,
    drawn_pairs,
    photograph,
    scaled_cases,
    shift_px,
    shifted_cases,
)
from overpaint.operators.align import Align
from overpaint.operators.measures.alignment import color_drift, measure_alignment
from overpaint.operators.measures.pair import Pair
from overpaint.operators.measures.similarity import Similarity, similarity_about
from overpaint.pipeline.images import Picture, encode, encode_mask
from PIL import Image
from running import outcomes, rows_in_actor

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee")


def small(name: str) -> np.ndarray:
    """A photograph of about 256 px, which is measured in a fraction of the time."""
    return np.asarray(Image.fromarray(photograph(name)).reduce(2))


def row(pair: Pair) -> dict:
    found = {
        "source_image": encode(Picture(pair.source)),
        "edited_image": encode(Picture(pair.edited)),
    }
    return found if pair.mask is None else {**found, "editable_mask_image": encode_mask(pair.mask)}


@pytest.mark.parametrize("edited", ["", "patch, mask", "patch, no mask"])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_shifts_of_photographs_are_measured_to_a_tenth_of_a_pixel(name, edited):
    for case in shifted_cases(small(name), edited):
        found = measure_alignment(case.pair)
        assert found is not None
        assert found.dx_px == pytest.approx(case.dx_px, abs=0.1)
        assert found.dy_px == pytest.approx(case.dy_px, abs=0.1)
        assert found.scale == pytest.approx(1, abs=0.002)
        assert found.confidence > 0.4


@pytest.mark.parametrize("edited", ["", "patch, mask"])
@pytest.mark.parametrize("name", ["astronaut", "coffee", "camera"])
def test_scales_of_photographs_are_measured_to_one_percent(name, edited):
    for case in scaled_cases(small(name), edited):
        found = measure_alignment(case.pair)
        assert found is not None
        assert found.scale == pytest.approx(case.scale, rel=0.01)
        assert math.hypot(found.dx_px, found.dy_px) < 0.5


def test_rotation_is_measured_counter_clockwise():
    image = Image.fromarray(small("astronaut"))
    for angle_deg in (-4.0, 1.5, 4.0):
        turned = np.asarray(image.rotate(angle_deg, Image.Resampling.BICUBIC))
        found = measure_alignment(Pair(np.asarray(image), turned))
        assert found is not None
        assert found.rotation_deg == pytest.approx(angle_deg, abs=0.1)
        assert found.scale == pytest.approx(1, rel=0.005)


@pytest.mark.parametrize("kind", ["replace", "move", "color", "add"])
def test_shift_of_one_pixel_is_found_in_drawn_edits(kind):
    pairs = list(drawn_pairs(kind, 16, 5, with_mask=True))
    measured = [[shift_px(pair) for pair in pairs_of] for pairs_of in zip(*pairs, strict=True)]
    known = [[value for value in values if value is not None] for values in measured]
    share = auc(*known)
    assert share is not None
    assert share >= 0.99
    assert len(known[1]) >= 8


def test_source_itself_is_aligned_exactly():
    source = small("chelsea")
    found = measure_alignment(Pair(source, source))
    assert found is not None
    assert math.hypot(found.dx_px, found.dy_px) < 0.01
    assert (found.scale, found.rotation_deg) == (1.0, 0.0)
    assert found.confidence == pytest.approx(1)
    assert color_drift(Pair(source, source), found) == pytest.approx(0, abs=0.01)


def test_other_picture_has_little_confidence():
    one, other = (small(name)[:200, :200] for name in ("astronaut", "coffee"))
    found = measure_alignment(Pair(one, np.ascontiguousarray(other)))
    assert found is None or found.confidence < 0.5


def test_plain_or_masked_pictures_have_no_alignment():
    plain = np.full((64, 64, 3), 90, np.uint8)
    stripes = np.repeat(np.arange(64, dtype=np.uint8)[:, None] // 8 % 2 * 100, 64, axis=1)
    striped = np.stack([stripes] * 3, axis=2)
    whole = np.full((64, 64), 255, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert measure_alignment(Pair(plain, plain)) is None
    assert measure_alignment(Pair(striped, striped)) is None
    assert measure_alignment(Pair(noise, noise, whole)) is None
    assert color_drift(Pair(noise, noise, whole), None) is None


def test_what_is_inside_the_mask_does_not_count():
    source = small("astronaut")
    edited = np.random.default_rng(0).integers(0, 256, source.shape, dtype=np.uint8)
    mask = np.full(source.shape[:2], 255, np.uint8)
    mask[:, :80] = 0
    edited[:, :80] = np.roll(source, 2, axis=0)[:, :80]
    found = measure_alignment(Pair(source, edited, mask))
    assert found is not None
    assert (found.dx_px, found.dy_px) == pytest.approx((0, 2), abs=0.05)
    assert found.scale == pytest.approx(1, abs=0.01)


def test_brightness_and_contrast_do_not_pull_the_alignment():
    source = small("coffee")
    edited = np.clip(np.roll(source, (1, -3), axis=(0, 1)) * 0.8 + 30, 0, 255).astype(np.uint8)
    found = measure_alignment(Pair(source, edited))
    assert found is not None
    assert (found.dx_px, found.dy_px) == pytest.approx((-3, 1), abs=0.05)


def test_color_drift_is_delta_e_of_the_typical_pixel():
    from skimage.color import lab2rgb, rgb2lab

    source = np.clip(small("astronaut"), 40, 200)
    shifted = lab2rgb(rgb2lab(source) + np.array([3.0, 0.0, 4.0]))
    drifted = np.clip(shifted * 255 + 0.5, 0, 255).astype(np.uint8)
    assert color_drift(Pair(source, drifted), None) == pytest.approx(5, abs=0.3)
    moved = Pair(source, np.roll(drifted, 4, axis=1))
    assert color_drift(moved, measure_alignment(moved)) == pytest.approx(5, abs=0.3)


def test_pictures_above_the_longest_side_are_measured_in_their_own_pixels():
    source = np.asarray(Image.fromarray(photograph("astronaut")).resize((1100, 1100)))
    found = measure_alignment(Pair(source, np.roll(source, (-3, 5), axis=(0, 1))))
    assert found is not None
    assert (found.dx_px, found.dy_px) == pytest.approx((5, -3), abs=0.1)
    assert found.scale == pytest.approx(1, abs=0.001)


def test_gray_pictures_of_other_proportions_are_measured():
    source = photograph("coins")[:120]
    found = measure_alignment(Pair(source, np.roll(source, 6, axis=1)))
    assert skimage.data.coins().ndim == 2
    assert found is not None
    assert (found.dx_px, found.dy_px) == pytest.approx((6, 0), abs=0.05)


def test_answer_has_every_column_and_is_the_same_in_an_actor():
    (case, *_) = shifted_cases(small("chelsea"))
    plain = Pair(np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 3, np.uint8))
    operator = Align()
    rows = [row(case.pair), row(plain)]
    found, nothing = outcomes(operator, rows)
    assert set(found) == set(nothing) == {column.name for column in operator.outputs}
    assert found["align_shift_px"] == pytest.approx(
        math.hypot(found["align_dx_px"], found["align_dy_px"])
    )
    assert {name for name, value in nothing.items() if value is not None} == {"color_drift"}
    assert nothing["color_drift"] == pytest.approx(0.8, abs=0.3)
    again = rows_in_actor(operator, [{"key": str(i), **one} for i, one in enumerate(rows)])
    assert [{name: one[name] for name in found} for one in again] == [found, nothing]


def test_similarities_go_to_reduced_pictures_and_back():
    found = similarity_about((20.0, 10.0), (3.0, -1.0), 1.1, 5.0)
    assert found.shift_at(20.0, 10.0) == pytest.approx((3, -1))
    assert (found.scale, found.rotation_deg) == pytest.approx((1.1, 5))
    assert found.reduced(4).reduced(1 / 4) == pytest.approx(found)
    assert Similarity(u=8.0).reduced(4) == Similarity(u=2.0)
    # A pixel of the reduced picture is the mean of 4 x 4: its middle goes where theirs goes.
    assert found.at(4 * 3 + 1.5, 4 * 2 + 1.5) == pytest.approx(
        tuple(4 * place + 1.5 for place in found.reduced(4).at(3, 2))
    )
