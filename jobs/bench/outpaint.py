"""Outpainting of drawn scenes whose whole is known: the middle is given, the margins are drawn.

The margins are a quarter of what is given on each side, so that the whole is a scene of the size
that `read_scene` knows. Figures are shares of the scenes, for the recipe, for margins that only
repeat the edge, and for the scenes as they were drawn, which bounds what can be read.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from overpaint.cluster.worker.batch import run_stages
from overpaint.cluster.worker.memory import LoadedOperator
from overpaint.jobs.papercut.draw import draw_pixels, item_mask
from overpaint.jobs.papercut.scene import SIZE_PX, Scene
from overpaint.jobs.papercut.words import captions
from overpaint.jobs.training.examples import SINGLE_OBJECT, mixture_scene
from overpaint.jobs.training.scene_reader import correct_attributes, read_background, read_scene
from overpaint.operators.extend import EXTENDED_IMAGE
from overpaint.pipeline.errors import RowError, UsageError
from overpaint.pipeline.images import Picture, decode, encode
from overpaint.pipeline.plan import Plan
from PIL import Image

RECIPE = "recipes/papercut/outpaint.toml"
"""Recipe of papercut, in the folder of the jobs."""
HOW = """\
The middle 42 x 42 px of unseen papercut scenes of one object, extended by a quarter of that on each
side; the prompt is the scene's caption. `old_equal`: every pixel that was given is the same.
`reads_as_scene`: background, kind, colour and texture are read as they were drawn. `margins_right`:
the new pixels alone are read as the scene's background. `outpainted` is all three. Scenes whose
object is less than three quarters inside are left out."""

_START_PX, _STOP_PX = 11, 53
_LEAST_INSIDE = 0.75
_NUM_SHOWN = 12

Pixels = NDArray[np.uint8]


class _Outpainted(NamedTuple):
    """A scene, and pictures of its whole.

    Attributes:
        scene: scene.
        padded: middle with repeated edges, RGB uint8 HWC.
        made: picture that the recipe made, RGB uint8 HWC.
    """

    scene: Scene
    padded: Pixels
    made: Pixels


def measure_outpainting(
    plan: Plan, num_scenes: int, *, sheet: Path | None = None
) -> list[dict[str, Any]]:
    """Measures how often a plan draws back what was cut off scenes.

    Args:
        plan: plan with an `extend` by a quarter on each side, and an edit.
        num_scenes: number of scenes, at least 1.
        sheet: file for a picture of the first scenes; None for none.

    Returns:
        A row of shares for the plan, for repeated edges and for the scenes as drawn.

    Raises:
        UsageError: the plan does not extend by a quarter on each side.
        RowError: an edit failed.
    """
    done = _outpaint(plan, unseen_scenes(num_scenes))
    drawn = [draw_pixels(each.scene) for each in done]
    if sheet is not None:
        shown = [[each.padded for each in done], [each.made for each in done], drawn]
        _save_sheet(sheet, [pictures[:_NUM_SHOWN] for pictures in shown])
    pictures = {
        plan.name: [each.made for each in done],
        "edges repeated": [each.padded for each in done],
        "as drawn": drawn,
    }
    scenes = [each.scene for each in done]
    return [{"pictures": name, **_shares(scenes, made)} for name, made in pictures.items()]


def unseen_scenes(num_scenes: int) -> list[Scene]:
    """Returns scenes of the test split whose one object is mostly in the middle."""
    scenes: list[Scene] = []
    index = 0
    while len(scenes) < num_scenes:
        scene = mixture_scene(index, split="test", mixture=SINGLE_OBJECT)
        shape = item_mask(scene, 0) > 0
        if _middle(shape).sum() >= _LEAST_INSIDE * shape.sum():
            scenes.append(scene)
        index += 1
    return scenes


def _outpaint(plan: Plan, scenes: Sequence[Scene]) -> list[_Outpainted]:
    kinds = ("fetch", "store", "score", "judge")
    stages = [stage for stage in plan.stages if stage.operator.kind not in kinds]
    loaded = {stage.name: LoadedOperator.load(stage.operator) for stage in stages}
    rows = [_row(scene, index) for index, scene in enumerate(scenes)]
    done: list[_Outpainted] = []
    for scene, row in zip(scenes, run_stages(stages, loaded, rows).rows, strict=True):
        if row.get("status"):
            raise RowError(row["error_code"], f"{row['source_uri']}: {row['error_message']}")
        made = decode(row["edited_image"]).rgb
        if EXTENDED_IMAGE.name not in row or made.shape != (SIZE_PX, SIZE_PX, 3):
            raise UsageError(
                f"recipe {plan.name!r}: it needs the stage extend, with 0.25 on each side"
            )
        done.append(_Outpainted(scene, decode(row[EXTENDED_IMAGE.name]).rgb, made))
    return done


def _row(scene: Scene, index: int) -> dict[str, Any]:
    middle = _middle(draw_pixels(scene))
    return {
        "key": str(index),
        "source_uri": f"scene {index}",
        "source_image": encode(Picture(middle)),
        "width_px": middle.shape[1],
        "height_px": middle.shape[0],
        "target_prompt": captions(scene)[0],
        "seed": index,
        "image_format": "png",
    }


def _middle(pixels: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(pixels[_START_PX:_STOP_PX, _START_PX:_STOP_PX])


def _shares(scenes: Sequence[Scene], pictures: Sequence[Pixels]) -> dict[str, Any]:
    """Returns the shares of scenes whose pictures are right."""
    right = [_is_right(*pair) for pair in zip(scenes, pictures, strict=True)]
    shares = {name: float(np.mean([each[name] for each in right])) for name in right[0]}
    shares["outpainted"] = float(np.mean([all(each.values()) for each in right]))
    return {**shares, "scenes": len(scenes)}


def _is_right(scene: Scene, picture: Pixels) -> dict[str, bool]:
    is_new = np.ones(picture.shape[:2], np.bool_)
    is_new[_START_PX:_STOP_PX, _START_PX:_STOP_PX] = False
    return {
        "old_equal": np.array_equal(_middle(picture), _middle(draw_pixels(scene))),
        "reads_as_scene": all(correct_attributes(scene, read_scene(picture)).values()),
        "margins_right": read_background(picture, is_new) == scene.background,
    }


def _save_sheet(file: Path, rows: Sequence[Sequence[Pixels]]) -> None:
    from overpaint.jobs.training.pictures import image_grid

    sheet: Image.Image = image_grid([np.stack(row) for row in rows])
    sheet.save(file)
