"""SAM: the region that a box or some points select."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from overpaint.operators.framing.masks import Box, Region
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.weights import Checkpoint
from PIL import Image

PART = "sam"

_POINTS_IN_A_CALL = 64
"""Points of a grid that the decoder sees at a time."""


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


def most_overlapping(
    sam: Pretrained,
    images: Sequence[Image.Image],
    regions: Sequence[Region],
    *,
    points_per_side: int,
    threshold: float,
) -> list[Region]:
    """Returns of each image's segments the one that overlaps a region most, at the image's size.

    Segments are what each point of a grid selects, all three of SAM's proposals for it, as where
    SAM segments everything; overlap is intersection over union, counted on SAM's own grid.

    Args:
        sam: loaded model and processor.
        images: RGB, all of one size.
        regions: one for each image, of its size.
        points_per_side: points along a side of the grid.
        threshold: least probability that belongs to a segment, above 0 and below 1.
    """
    import torch

    model: Any = sam.model
    inputs = sam.processor(images=list(images), return_tensors="pt")
    sizes = inputs["original_sizes"], inputs["reshaped_input_sizes"]
    seen_px = [int(side) for side in sizes[1][0]]
    cut, best = math.log(threshold / (1 - threshold)), _Best.none(len(images))
    with torch.inference_mode():
        pixels = inputs["pixel_values"].to(model.device, model.dtype)
        embeddings = model.get_image_embeddings(pixels)
        for points in _grid(points_per_side, seen_px).split(_POINTS_IN_A_CALL):
            prompts = points.to(pixels)[None, :, None].expand(len(images), -1, -1, -1)
            answer = model(image_embeddings=embeddings, input_points=prompts, multimask_output=True)
            logits = answer.pred_masks.flatten(1, 2).float().cpu()
            side_px = pixels.shape[-1] / logits.shape[-1]
            wanted = _on_grid(regions, [round(side / side_px) for side in seen_px], logits)
            best = best.or_better(logits, _overlaps(logits > cut, wanted))
    chosen = best.logits[:, None, None]
    masks = sam.processor.image_processor.post_process_masks(chosen, *sizes, mask_threshold=cut)
    return [mask[0, 0].numpy() for mask in masks]


class _Best(NamedTuple):
    """The best segment of each image so far.

    Attributes:
        logits: its logits bhw on SAM's grid.
        overlaps: its overlap b with the region.
    """

    logits: Any
    overlaps: Any

    @classmethod
    def none(cls, count: int) -> "_Best":
        """Returns what every segment is better than."""
        import torch

        return cls(torch.zeros(count, 1, 1), torch.full((count,), -1.0))

    def or_better(self, logits: Any, overlaps: Any) -> "_Best":
        """Returns the best of these and of further segments bnhw with their overlaps bn."""
        import torch

        most, places = overlaps.max(dim=1)
        rows = torch.arange(len(logits))
        is_better = most > self.overlaps
        kept = self.logits.expand_as(logits[:, 0])
        return _Best(
            logits[rows, places].where(is_better[:, None, None], kept),
            most.maximum(self.overlaps),
        )


def _grid(points_per_side: int, seen_px: Sequence[int]) -> Any:
    """Returns the points n2, x and y, of a grid over the part of SAM's square with the image."""
    import torch

    shares = (torch.arange(points_per_side) + 0.5) / points_per_side
    y, x = torch.meshgrid(shares * seen_px[0], shares * seen_px[1], indexing="ij")
    return torch.stack([x, y], dim=-1).flatten(0, 1)


def _on_grid(regions: Sequence[Region], seen: Sequence[int], logits: Any) -> Any:
    """Returns regions bhw on SAM's grid, of which the image is the top left part."""
    import torch
    from torch.nn import functional

    stacked = torch.from_numpy(np.stack(regions))[:, None].float()
    scaled = functional.interpolate(stacked, tuple(seen), mode="bilinear", antialias=True) >= 0.5
    height, width = logits.shape[-2:]
    return functional.pad(scaled[:, 0], (0, width - seen[1], 0, height - seen[0]))


def _overlaps(segments: Any, wanted: Any) -> Any:
    """Returns the intersection over union bn of segments bnhw and a region bhw of each image."""
    both = (segments & wanted[:, None]).sum(dim=(2, 3))
    either = (segments | wanted[:, None]).sum(dim=(2, 3))
    return both / either.clamp_min(1)
