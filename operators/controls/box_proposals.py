"""Boxes around salient points, ranked by CLIP (arXiv 2311.16432).

Text-driven Image Editing via Learnable Regions puts boxes of a few sizes around the points that a
vision transformer attends to most; CLIP tells which of them fits the text.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from overpaint.operators.framing.masks import Box, Region
from overpaint.operators.models import clip
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.variant import Variant
from PIL import Image
from pydantic import Field

_GRID = 32
"""Places along a side of the picture in which half widths are counted, as in the paper."""


class BoxProposals(Variant):
    """Fields of a variant that looks for boxes by CLIP."""

    num_points: int = Field(default=9, ge=1, le=64)
    """Points with the most attention around which boxes are put; 9 in the paper."""
    half_widths: tuple[int, ...] = (4, 6, 8, 10, 12, 14)
    """Half widths of the boxes around each point, in 32nds of a side; those of the paper."""

    @property
    def num_embeddings(self) -> int:
        """The number of texts and images that CLIP embeds for a source, attention included."""
        return self.num_points * len(self.half_widths) + 2

    def ranked(
        self, images: Sequence[Image.Image], phrases: Sequence[str], model: Pretrained
    ) -> list[list[Box[float]]]:
        """Returns the boxes of each source, in shares of its sides, best first.

        Args:
            images: sources.
            phrases: words for what to find in each.
            model: a CLIP, see `load_attending`.
        """
        attention = clip.attention(model, images)
        texts = clip.embed_texts(model, phrases)
        return [self._ranked(*each, model) for each in zip(images, attention, texts, strict=True)]

    def boxes(self, attention_hw: clip.Attention) -> list[Box[float]]:
        """Returns the boxes around the points with the most attention, in shares of the sides."""
        height, width = attention_hw.shape
        order = np.argsort(-attention_hw, axis=None, kind="stable")
        # A small grid has fewer places than there are points: then they come again.
        places = np.resize(order[: self.num_points], self.num_points)
        centres = [((x + 0.5) / width, (y + 0.5) / height) for y, x in _yx(places, width)]
        return [
            Box(max(0.0, x - half), max(0.0, y - half), min(1.0, x + half), min(1.0, y + half))
            for x, y in centres
            for half in (half_width / _GRID for half_width in self.half_widths)
        ]

    def _ranked(
        self, image: Image.Image, attention_hw: clip.Attention, text: clip.Embedding, model: Any
    ) -> list[Box[float]]:
        """Returns boxes by the likeness of what they show and a text, best first."""
        boxes = self.boxes(attention_hw)
        images = clip.embed_images(model, [_crop(image, box) for box in boxes])
        clip.check_finite([*images, text])
        likeness = np.array([float(each @ text) for each in images])
        return [boxes[rank] for rank in np.argsort(-likeness, kind="stable")]


def load_attending(checkpoint: Checkpoint) -> Pretrained:
    """Loads a CLIP that tells its attention."""
    loaded = clip.load(checkpoint)
    loaded.model.set_attn_implementation("eager")
    return loaded


def pixels_of(box: Box[float], width_px: int, height_px: int) -> Region:
    """Returns the pixels of a box, at least one: bool HW."""
    region = np.zeros((height_px, width_px), dtype=np.bool_)
    left, right = round(box.left * width_px), round(box.right * width_px)
    top, bottom = round(box.top * height_px), round(box.bottom * height_px)
    region[top : max(bottom, top + 1), left : max(right, left + 1)] = True
    return region


def _yx(places: "np.ndarray[Any, Any]", width: int) -> list[tuple[int, int]]:
    return [divmod(int(place), width) for place in places]


def _crop(image: Image.Image, box: Box[float]) -> Image.Image:
    """Returns the part of an image in a box, of at least one pixel."""
    left, top = int(box.left * image.width), int(box.top * image.height)
    right, bottom = round(box.right * image.width), round(box.bottom * image.height)
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
