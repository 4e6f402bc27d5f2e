"""The benchmark of outpainting, with the recipe that comes along."""

from importlib.resources import files

import pytest
from overpaint.jobs.bench.outpaint import RECIPE, measure_outpainting
from overpaint.jobs.recipes import load_plan
from overpaint.pipeline.errors import UsageError
from PIL import Image


def shipped(*settings):
    return load_plan(str(files("overpaint.jobs") / RECIPE), settings)


def test_benchmark_measures_the_recipe_and_its_bounds(tmp_path):
    sheet = tmp_path / "sheet.png"
    made, padded, drawn = measure_outpainting(shipped("edit.num_inference_steps=4"), 1, sheet=sheet)
    assert [each["pictures"] for each in (made, padded, drawn)] == [
        *("outpaint", "edges repeated", "as drawn")
    ]
    assert made["old_equal"] == padded["old_equal"] == drawn["old_equal"] == 1.0
    assert drawn["outpainted"] == 1.0
    assert Image.open(sheet).height > 3 * 64


@pytest.mark.slow
def test_papercut_scenes_are_outpainted():
    made, padded, _ = measure_outpainting(shipped(), 24)
    assert made["old_equal"] == 1.0
    assert made["outpainted"] >= 0.8
    assert made["outpainted"] > padded["outpainted"] + 0.2


def test_other_margins_are_refused():
    settings = ("extend.left=0.5", "edit.num_inference_steps=1")
    with pytest.raises(UsageError, match=r"0\.25 on each side"):
        measure_outpainting(shipped(*settings), 1)
