"""SAM: the region that a box or some points select."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from overpaint.operators.framing.masks import Box, Region
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.weights import Checkpoint
from PIL import Image

PART = "sam"


class Point(NamedTuple):
    """Point of the source that belongs to the region, or does not."""

    x_px: float
    y_px: float
    is_inside: bool = True


class Selection(NamedTuple):
    """Selection of a region: a box, points, or both. In one batch all have the same form."""

    box: Box[float] | None
    points: tuple[Point, ...] = ()

    @property
    def form(self) -> tuple[bool, int]:
        """The form that must agree within a batch: box or not, and number of points."""
        return self.box is not None, len(self.points)


def load(checkpoint: Checkpoint) -> Pretrained:
    """Loads a SamModel checkpoint."""
    from transformers import SamModel

    return Pretrained.load(SamModel, checkpoint)


def select(
    sam: Pretrained,
    images: Sequence[Image.Image],
    selections: Sequence[Selection],
    threshold: float,
) -> list[Region]:
    """Returns the region of each image that its selection means, at the image's size.

    One point alone is ambiguous, so there the surest of SAM's three proposals is taken.

    Args:
        sam: loaded model and processor.
        images: RGB.
        selections: one for each image, all of one form.
        threshold: least probability that belongs to the region, above 0 and below 1.
    """
    import torch

    model: Any = sam.model
    is_ambiguous = selections[0].form == (False, 1)
    inputs = sam.processor(images=list(images), return_tensors="pt", **_prompts(selections))
    sizes = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
    with torch.inference_mode():
        output = model(**inputs.to(model.device, model.dtype), multimask_output=is_ambiguous)
        best = output.iou_scores[:, 0].argmax(dim=-1)
        logits = output.pred_masks[torch.arange(len(images)), 0, best][:, None, None].float().cpu()
    cut = math.log(threshold / (1 - threshold))
    masks = sam.processor.image_processor.post_process_masks(logits, *sizes, mask_threshold=cut)
    return [mask[0, 0].numpy() for mask in masks]


def _prompts(selections: Sequence[Selection]) -> dict[str, Any]:
    has_box, num_points = selections[0].form
    prompts: dict[str, Any] = {}
    if has_box:
        prompts["input_boxes"] = [[[*(one.box or ())]] for one in selections]
    if num_points:
        prompts["input_points"] = [[[p.x_px, p.y_px] for p in one.points] for one in selections]
        prompts["input_labels"] = [[int(p.is_inside) for p in one.points] for one in selections]
    return prompts
