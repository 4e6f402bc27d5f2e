"""Outpainting by every method that needs a mask: the old pixels stay, the new ones are drawn."""

import numpy as np
import pytest
from method_cases import BATCH, make, pixels
from overpaint.operators.extend import Extend
from overpaint.operators.methods import METHODS
from overpaint.pipeline.conditions import MASK
from overpaint.pipeline.images import decode
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.stage import Stage

FILLS = [name for name in METHODS.names() if METHODS.find(name).needs == (MASK,)]


def outpainted(edit, rows, **margins):
    """Rows with what `extend` and an edit after it have added."""
    extend = Extend(**margins)
    plan = Plan(name="outpaint", stages=(Stage(operator=extend), Stage(operator=edit)))
    (stage,) = (stage for stage in plan.stages if stage.name == "edit")
    rows = [{**row, **answer} for row, answer in zip(rows, extend.run(rows, None), strict=True)]
    answers = edit.run([stage.to_operator(row) for row in rows], edit.load())
    return [{**row, **answer} for row, answer in zip(rows, answers, strict=True)]


def test_fills_are_those_with_a_mask():
    assert {"inpaint", "ddnm", "ddrm", "dps", "copaint", "blended_latent_diffusion"} <= set(FILLS)


@pytest.mark.parametrize("method", FILLS)
def test_old_pixels_stay_and_new_ones_are_drawn(method, checkpoint_of, row):
    # Neither 4 px by which the mask would be dilated nor odd sizes reach into the old picture.
    edit = make(method, checkpoint_of, mask_dilate_px=4, feather_px=0, batch_size=1)
    (done,) = outpainted(edit, [row(1, height=21, width=26)], left=0.3, bottom=0.5)
    left, top, right, bottom = done["extended_box"]
    made, before = pixels(done), decode(done["extended_image"]).rgb
    assert made.shape == before.shape == (21 + 11, 26 + 8, 3)
    assert np.array_equal(made[top:bottom, left:right], decode(done["source_image"]).rgb)
    is_new = decode(done["editable_mask_image"]).rgb[..., 0] > 0
    assert np.array_equal(is_new, decode(done["extended_mask_image"]).rgb[..., 0] > 0)
    changed = np.any(made != before, axis=-1)
    assert changed[is_new].mean() > 0.9


def test_dilation_reaches_everything_that_is_not_kept(checkpoint_of, row):
    edit = make("ddnm", checkpoint_of, mask_dilate_px=4)
    given = [row(number) for number in range(BATCH)]
    freely = edit.run(given, edit.load())
    kept = [{**each, "kept_image": each["mask_image"]} for each in given]
    around = edit.run(kept, edit.load())
    for before, free, answer in zip(given, freely, around, strict=True):
        mask = decode(before["mask_image"]).rgb[..., 0] > 0
        wide = decode(free["editable_mask_image"]).rgb[..., 0] > 0
        ring = decode(answer["editable_mask_image"]).rgb[..., 0] > 0
        assert np.array_equal(ring, wide & ~mask)
        assert np.array_equal(pixels(answer)[mask], decode(before["source_image"]).rgb[mask])
