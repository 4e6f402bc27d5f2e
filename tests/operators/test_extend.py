"""`extend`: margins of any width, whose old pixels stay what they are in every edit."""

import numpy as np
import pyarrow as pa
import pytest
from overpaint.operators.edit import Edit
from overpaint.operators.extend import Extend
from overpaint.operators.negative import Negative
from overpaint.operators.score import Score
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.images import MAX_PIXELS, Picture, decode, decode_mask, encode
from overpaint.pipeline.operator import Rejected
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.recipes.recipe import plan_from_tables, recipe_of
from overpaint.pipeline.runs.inputs import Input
from overpaint.pipeline.runs.planning import plan_parts
from overpaint.pipeline.stage import Stage
from pydantic import ValidationError
from running import failure_code, outcomes
from toy_runs import table_of

SIDES = ("left", "top", "right", "bottom")
EVERY_SIDE = dict.fromkeys(SIDES, 0.25)


def extended(operator, **row):
    (answer,) = outcomes(operator, [row])
    return answer


def place(answer):
    """The part of the enlarged picture that the source fills."""
    left, top, right, bottom = answer["extended_box"]
    return slice(top, bottom), slice(left, right)


@pytest.mark.parametrize(
    ("fields", "box", "size"),
    [
        ({"left": 0.25}, [12, 0, 60, 40], (60, 40)),
        ({"top": 0.5, "bottom": 0.1}, [0, 20, 48, 60], (48, 64)),
        (EVERY_SIDE, [12, 10, 60, 50], (72, 60)),
        ({"left": 3, "right": 5, "unit": "px"}, [3, 0, 51, 40], (56, 40)),
        ({"right": 2.0}, [0, 0, 48, 40], (144, 40)),
    ],
)
@pytest.mark.parametrize("padding", ["edge", "reflect"])
def test_old_pixels_are_kept_and_the_rest_is_the_mask(noise, fields, box, size, padding):
    source = decode(noise(1)).rgb
    answer = extended(Extend(**fields, padding=padding), source_image=noise(1))
    picture = decode(answer["extended_image"]).rgb
    assert answer["extended_box"] == box
    assert (answer["extended_width_px"], answer["extended_height_px"]) == size
    assert picture.shape == (size[1], size[0], 3)
    assert np.array_equal(picture[place(answer)], source)
    mask = decode_mask(answer["extended_mask_image"], *size)
    kept = decode_mask(answer["kept_image"], *size)
    assert np.array_equal(mask, 255 - kept)
    assert (kept[place(answer)] == 255).all()
    assert int(kept.astype(bool).sum()) == 48 * 40


def test_padding_repeats_the_edge_or_mirrors_the_source(noise):
    source = decode(noise(1)).rgb
    by_edge = decode(extended(Extend(left=0.5), source_image=noise(1))["extended_image"]).rgb
    assert np.array_equal(by_edge[:, :24], np.repeat(source[:, :1], 24, axis=1))
    mirrored = Extend(left=0.5, padding="reflect")
    picture = decode(extended(mirrored, source_image=noise(1))["extended_image"]).rgb
    assert np.array_equal(picture[:, :24], source[:, 24:0:-1])


def test_half_a_pixel_rounds_up():
    source = encode(Picture(np.zeros((42, 42, 3), np.uint8)))
    answer = extended(Extend(left=0.25, right=0.25), source_image=source)
    assert answer["extended_box"] == [11, 0, 53, 42]


def test_rows_may_have_margins_of_their_own(noise):
    row = {"source_image": noise(1), "margin_left": 0.5, "margin_top": None, "margin_right": 0.0}
    answer = extended(Extend(**EVERY_SIDE), **row)
    assert answer["extended_box"] == [24, 10, 72, 50]
    assert (answer["extended_width_px"], answer["extended_height_px"]) == (72, 60)


def test_margins_of_a_transparent_source_are_opaque_and_go_on_as_seen():
    alpha = np.zeros((8, 8), np.uint8)
    rgb = np.full((8, 8, 3), 7, np.uint8)
    answer = extended(Extend(left=1.0), source_image=encode(Picture(rgb, alpha)))
    picture = decode(answer["extended_image"])
    assert np.array_equal(picture.rgb[place(answer)], rgb)
    assert (picture.rgb[:, :8] == 255).all()
    assert picture.alpha is not None
    assert (picture.alpha[:, :8] == 255).all()
    assert (picture.alpha[:, 8:] == 0).all()


def test_margins_below_half_a_pixel_are_rejected(noise):
    assert isinstance(extended(Extend(left=0.001), source_image=noise(1)), Rejected)


def test_enlarged_picture_has_no_more_pixels_than_any(monkeypatch, noise):
    monkeypatch.setattr("overpaint.operators.extend.MAX_PIXELS", 48 * 40 * 2)
    assert MAX_PIXELS > 48 * 40 * 2
    assert failure_code(Extend(left=1.1), {"source_image": noise(1)}) == "image_too_large"
    assert extended(Extend(left=1.0), source_image=noise(1))["extended_width_px"] == 96


@pytest.mark.parametrize(
    "fields",
    [
        {"left": -0.1},
        {"left": 9},
        {"top": float("nan")},
        {"bottom": 1.5, "unit": "px"},
        {"unit": "percent"},
    ],
)
def test_bad_margins_of_a_recipe_are_refused(fields):
    with pytest.raises(ValidationError):
        Extend(**fields)


def plan_of(*operators, **extend):
    stages = (Extend(**extend), *operators)
    return Plan(name="outpaint", stages=tuple(Stage(operator=each) for each in stages))


def planned(plan, **columns):
    table = table_of([{"source_uri": "a.png", **columns}])
    return [row for part, _ in plan_parts(plan, table) for row in part.to_pylist()]


@pytest.mark.parametrize(
    ("extend", "columns", "word"),
    [
        ({}, {}, "every margin is 0"),
        ({"left": 0.5}, {"margin_left": 9.0}, "give 0 to 8"),
        ({"left": 0.5}, {"margin_left": -0.5}, "margin left = -0.5"),
        ({"left": 0.5}, {"margin_top": float("nan")}, "margin top"),
        ({"left": 0.5}, {"margin_left": 0.0}, "every margin is 0"),
        ({"left": 3, "unit": "px"}, {"margin_top": 1.5}, "whole pixels"),
    ],
)
def test_bad_margins_of_rows_are_refused_before_anything_starts(extend, columns, word):
    with pytest.raises(UsageError, match=word) as caught:
        planned(plan_of(Negative(), **extend), **columns)
    assert "a.png: stage 'extend'" in str(caught.value)


def test_margins_are_part_of_a_rows_identity():
    def key(columns, **extend):
        (row,) = planned(plan_of(Negative(), **extend), **columns)
        return row["key"]

    recipes = [{"left": 0.5}, {"left": 0.25}, {"right": 0.5}, {"left": 1, "unit": "px"}]
    keys = [key({}, **extend) for extend in recipes]
    keys += [key({"margin_left": margin}, left=0.5) for margin in (0.25, 0.75)]
    assert len(set(keys)) == len(keys)
    assert key({"margin_left": 0.25}, left=0.5) == key({"margin_left": 0.25}, left=0.5)


def test_stages_after_it_work_on_the_enlarged_picture():
    plan = plan_of(Edit(method="ddnm"), Score(use_clip=False), left=0.5)
    assert [stage.name for stage in plan.stages] == ["fetch", "extend", "edit", "store", "score"]
    reads = {stage.name: stage.reads for stage in plan.stages}
    sizes = {"width_px": "extended_width_px", "height_px": "extended_height_px"}
    pictures = {"source_image": "extended_image", "mask_image": "extended_mask_image"}
    assert reads["edit"].items() >= {**sizes, **pictures}.items()
    assert reads["store"] == {"mask_image": "extended_mask_image"}
    assert reads["score"] == pictures
    # The mask that the input may name is of the old picture.
    assert plan.stages[0].operator.conditions == ()
    assert recipe_of(plan_from_tables(recipe_of(plan), "recipe")) == recipe_of(plan)


def test_stage_reads_the_old_picture_where_it_says_so():
    old = Stage(operator=Negative(), reads={"source_image": "source_image"})
    plan = Plan(name="old", stages=(Stage(operator=Extend(left=1)), old))
    assert plan.stages[2].reads == {"source_image": "source_image"}


def test_second_extension_goes_on_from_the_first():
    again = Stage(operator=Extend(top=1), name="up", prefix="up_")
    plan = Plan(
        name="twice", stages=(Stage(operator=Extend(left=1)), again, Stage(operator=Negative()))
    )
    assert plan.stages[2].reads == {"source_image": "extended_image"}
    assert plan.stages[3].reads == {"source_image": "up_extended_image"}


def test_columns_of_a_plan_without_it_are_as_before():
    plan = Plan(name="plain", stages=(Stage(operator=Edit(method="ddnm")),))
    assert plan.stages[1].reads == {}
    assert "kept_image" not in plan.key_columns()
    assert isinstance(table_of([{"source_uri": "a.png"}]), Input)
    assert pa.types.is_binary(next(o for o in Extend().outputs if o.name == "kept_image").type)
