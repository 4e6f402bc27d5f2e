"""Detectors: how surely a picture shows what a phrase names, in a region of it.

CLIPSeg answers by its heat; any model of transformers' zero-shot object detection (OWL-ViT, OWLv2,
Grounding DINO) by the scores of its boxes. Each picture is a call of its own: these models pad
pictures and phrases to the largest of a batch.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from overpaint.operators.framing.masks import Region, scaled
from overpaint.operators.models import clipseg
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.weights import Checkpoint
from PIL import Image

PART = clipseg.PART
_LEAST_INSIDE = 0.2
"""Least share of a box that is inside the region, as AnyEdit asks of an object's mask."""


@dataclass(frozen=True, slots=True)
class Detector:
    """A loaded detector.

    Attributes:
        pretrained: model and processor.
        is_clipseg: whether the model answers with heat, and not with boxes.
    """

    pretrained: Pretrained
    is_clipseg: bool

    def surety(self, image: Image.Image, phrase: str, region: Region | None) -> float:
        """Returns how surely a picture shows a thing, 0 to 1.

        Args:
            image: RGB picture.
            phrase: words for the thing.
            region: bool HW of the picture's size: places that count; None for all.
        """
        return (self._by_heat if self.is_clipseg else self._by_boxes)(image, phrase, region)

    def _by_heat(self, image: Image.Image, phrase: str, region: Region | None) -> float:
        """Returns the greatest probability of a place."""
        (heat,) = clipseg.find(self.pretrained, [image], [phrase])
        if region is None:
            return float(heat.max())
        inside = scaled(heat, image.width, image.height)[region]
        return float(inside.max()) if inside.size else 0.0

    def _by_boxes(self, image: Image.Image, phrase: str, region: Region | None) -> float:
        """Returns the greatest score of a box that is inside by a fifth or more."""
        import torch

        model, processor = self.pretrained.model, self.pretrained.processor
        inputs = processor(images=image, text=[[phrase]], return_tensors="pt", truncation=True)
        with torch.inference_mode():
            outputs = model(**inputs.to(model.device, model.dtype))
        (found,) = processor.post_process_grounded_object_detection(
            outputs,
            threshold=0.0,
            target_sizes=[(image.height, image.width)],
            text_labels=[[phrase]],
        )
        pairs = zip(found["boxes"].tolist(), found["scores"].tolist(), strict=True)
        scores = [score for box, score in pairs if region is None or _is_inside(box, region)]
        return float(max(scores, default=0.0))


def load(checkpoint: Checkpoint) -> Detector:
    """Loads a CLIPSeg, or a model of zero-shot object detection."""
    from transformers import AutoConfig, AutoModelForZeroShotObjectDetection

    config: Any = AutoConfig.from_pretrained(checkpoint.path, **checkpoint.source_options())
    if config.model_type == "clipseg":
        return Detector(clipseg.load(checkpoint), is_clipseg=True)
    loaded = Pretrained.load(AutoModelForZeroShotObjectDetection, checkpoint)
    return Detector(loaded, is_clipseg=False)


def _is_inside(box: list[float], region: Region) -> bool:
    """Tells whether a fifth of a box or more is inside a region."""
    height, width = region.shape
    left, top, right, bottom = (round(value) for value in box)
    rows = slice(min(max(top, 0), height), min(max(bottom, 0), height))
    columns = slice(min(max(left, 0), width), min(max(right, 0), width))
    part = region[rows, columns]
    return bool(part.size) and float(np.mean(part)) >= _LEAST_INSIDE
