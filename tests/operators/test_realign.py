"""The correction of small shifts, in a row and in a run."""

import numpy as np
import pytest
from overpaint.jobs.bench.align import photograph
from overpaint.operators.align import Align
from overpaint.operators.realign import Realign
from overpaint.pipeline.images import Picture, decode, encode, encode_mask
from overpaint.pipeline.plan import Plan
from PIL import Image
from running import outcomes


@pytest.fixture(scope="module")
def source() -> np.ndarray:
    return np.asarray(Image.fromarray(photograph("astronaut")).reduce(2))


def row(source, edited, mask=None, **more):
    found = {"source_image": encode(Picture(source)), "edited_image": encode(Picture(edited))}
    found |= {} if mask is None else {"editable_mask_image": encode_mask(mask)}
    return {**found, "image_format": "png", **more}


def box_mask(source):
    mask = np.zeros(source.shape[:2], np.uint8)
    mask[60:160, 80:180] = 255
    return mask


def test_shift_is_taken_out_and_the_source_pasted_back(source):
    mask = box_mask(source)
    wanted = source.copy()
    wanted[mask > 0] = 255 - wanted[mask > 0]
    (answer,) = outcomes(Realign(feather_px=0), [row(source, np.roll(wanted, 3, axis=1), mask)])
    made = decode(answer["realigned_image"]).rgb
    assert answer["realigned"] is True
    assert answer["realign_dx_px"] == pytest.approx(3, abs=0.05)
    assert np.array_equal(made[mask == 0], source[mask == 0])
    inside = np.abs(made.astype(int) - wanted)[mask > 0]
    assert inside.mean() < 1.5
    assert answer["realigned_mask_image"] == encode_mask(mask)


def test_zoom_is_taken_out_without_a_mask(source):
    side = source.shape[0]
    zoomed = Image.fromarray(source).resize((side + 16, side + 16), Image.Resampling.BICUBIC)
    edited = np.asarray(zoomed.crop((8, 8, 8 + side, 8 + side)))
    (answer,) = outcomes(Realign(), [row(source, edited)])
    made = decode(answer["realigned_image"]).rgb
    before, after = (np.abs(one.astype(int) - source).mean() for one in (edited, made))
    assert answer["realign_scale"] == pytest.approx(1 + 16 / side, rel=0.002)
    assert after < before / 4
    left = outcomes(Align(), [row(source, made)])[0]
    assert abs(left["align_scale"] - 1) < 0.001
    assert answer["realigned_mask_image"] is None


@pytest.mark.parametrize(
    ("fields", "shift"),
    [({}, 0), ({"max_shift": 0.01}, 5), ({"min_confidence": 1.0}, 5), ({"min_shift_px": 6.0}, 5)],
)
def test_edit_is_kept_byte_for_byte_outside_the_bounds(source, fields, shift):
    noise = np.random.default_rng(1).integers(-3, 4, source.shape)
    moved = np.roll(source, shift, axis=0)
    given = row(source, np.clip(moved + noise, 0, 255).astype(np.uint8))
    (answer,) = outcomes(Realign(**fields), [given])
    assert answer["realigned_image"] == given["edited_image"]
    assert answer["realigned"] is False
    assert (answer["realign_dx_px"], answer["realign_scale"]) == (0.0, 1.0)


def test_later_stages_read_the_corrected_picture_with_its_mask():
    stages = ("negative", "realign", "align", "score")
    operators = [{"operator": name} for name in stages]
    plan = plan_of(*operators)
    reads = {stage.name: stage.reads for stage in plan.stages}
    corrected = {"edited_image": "realigned_image", "editable_mask_image": "realigned_mask_image"}
    assert reads["store"] == corrected
    assert reads["align"] == reads["score"] == corrected
    assert plan.stored_images() == {
        "realigned_image": "edited_uri",
        "mask_image": "mask_uri",
        "realigned_mask_image": "editable_mask_uri",
    }
    assert plan.fingerprint() != plan_of({"operator": "negative"}).fingerprint()


def plan_of(*stages) -> Plan:
    from overpaint.pipeline.catalogue import OPERATORS
    from overpaint.pipeline.stage import Stage

    made = []
    for stage in stages:
        kind = OPERATORS.find(stage["operator"])
        fields = {"use_clip": False} if stage["operator"] == "score" else {}
        made.append(Stage(operator=kind(**fields)))
    return Plan(name="corrected", stages=tuple(made))
