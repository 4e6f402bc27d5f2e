"""Evaluation of each checkpoint on test scenes, as `overpaint bench checkpoints` reports it.

Every measure loads a checkpoint from its folder with plain `from_pretrained`, as any user would, or
through the operator that uses it, and draws a sample sheet.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from overpaint.jobs.training import measure_latent, measure_vision
from overpaint.jobs.training.measurement import EvalContext, Measurement
from PIL import Image

__all__ = ["BARS", "MEASURES", "EvalContext", "main_figure", "measure"]

BARS: dict[tuple[str, str], float] = {
    ("vae", "psnr_db_mean"): 34.0,
    ("vae", "psnr_db_p5"): 29.5,
    ("text_to_image", "attributes_right"): 0.92,
    ("instruction", "success"): 0.85,
    ("instruction", "oracle_success"): 0.98,
    ("inpainting", "success"): 0.80,
    ("clip", "rank1_of_64"): 0.90,
    ("clipseg", "iou_mean"): 0.86,
    ("caption", "attributes_right"): 0.90,
    ("judge", "auc"): 0.90,
    ("sam", "iou_box_mean"): 0.91,
    ("sam", "iou_point_mean"): 0.82,
}
"""Figures that checkpoints are to reach, by checkpoint and figure; its main one first."""

MEASURES: dict[str, Callable[[EvalContext], Measurement]] = {
    "vae": measure_latent.measure_vae,
    "text_to_image": measure_latent.measure_text_to_image,
    "instruction": measure_latent.measure_instruction,
    "inpainting": measure_latent.measure_inpainting,
    "clip": measure_vision.measure_clip,
    "clipseg": measure_vision.measure_clipseg,
    "sam": measure_vision.measure_sam,
    "caption": measure_vision.measure_caption,
    "judge": measure_vision.measure_judge,
}


class Figure(NamedTuple):
    """Measured figure of a checkpoint.

    Attributes:
        name: name of the figure, such as `iou_mean`.
        value: value of the figure.
        num_scenes: number of test scenes behind it.
    """

    name: str
    value: float
    num_scenes: int


class Evaluation(NamedTuple):
    """Evaluation of one checkpoint.

    Attributes:
        figures: figures of the checkpoint.
        sheet: sample sheet of the first scenes.
    """

    figures: list[Figure]
    sheet: Image.Image


def measure(name: str, context: EvalContext) -> Evaluation:
    """Evaluates a checkpoint.

    Args:
        name: one of `MEASURES`.
        context: folders, device and number of scenes.

    Raises:
        ValueError: `name` is not one of `MEASURES`.
    """
    if name not in MEASURES:
        raise ValueError(f"checkpoint is {name!r}; it must be one of {', '.join(MEASURES)}")
    with torch.no_grad():
        values, sheet = MEASURES[name](context)
    figures = [Figure(figure, value, context.num_scenes) for figure, value in values.items()]
    return Evaluation(figures, sheet)


def main_figure(name: str) -> str:
    """Returns the figure of a checkpoint that counts most."""
    return next(figure for checkpoint, figure in BARS if checkpoint == name)
