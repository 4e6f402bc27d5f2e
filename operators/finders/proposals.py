"""Masks by proposals: boxes around salient points, ranked by CLIP (arXiv 2311.16432).

Text-driven Image Editing via Learnable Regions puts boxes of a few sizes around the points that a
vision transformer attends to most; CLIP tells which of them fits the text.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from overpaint.operators.framing.masks import Box
from overpaint.operators.measures import phrases
from overpaint.operators.models import clip
from overpaint.operators.models.finder import Finder, Finding
from overpaint.operators.models.uses_checkpoint import CheckpointFields
from overpaint.operators.models.weights import Checkpoint, DtypeName
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row, first_text
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import decode
from PIL import Image
from pydantic import Field

_GRID = 32
"""Places along a side of the picture in which half widths are counted, as in the paper."""


class ProposalSearch(NamedTuple):
    """A source and the words for what to find in it.

    Attributes:
        image: the source, small.
        phrase: words for what to find.
    """

    image: Image.Image
    phrase: str


class ProposalsFinder(Finder, CheckpointFields):
    """Finds, of boxes around salient points, that which looks most like what a phrase names.

    Candidate 1 of a row gets the second best, and so on. The paper's points are those of DINO, and
    it trains a network of its own for each picture, through edits; here CLIP's own attention gives
    the points, and CLIP compares what is in each box with the words before anything is edited.
    """

    papers = ("2311.16432",)

    num_points: int = Field(default=9, ge=1, le=64)
    """Points with the most attention around which boxes are put; 9 in the paper."""
    half_widths: tuple[int, ...] = (4, 6, 8, 10, 12, 14)
    """Half widths of the boxes around each point, in 32nds of a side; those of the paper."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source's size, and the number of the candidate."""
        return (c.WIDTH_PX, c.HEIGHT_PX, c.CANDIDATE)

    @property
    def optional(self) -> tuple[Column, ...]:
        """The columns in which a phrase may be."""
        return (c.MASK_PHRASE, c.INSTRUCTION)

    def check(self) -> None:
        """Checks that the CLIP is there."""
        self._weights("float32").check()

    def revisions(self) -> dict[str, str]:
        """Returns the weights of the CLIP."""
        return {"checkpoint": self._weights("float32").identity()}

    def cost(self) -> Cost:
        """Counts the boxes, the picture that is attended to, and the phrase."""
        return Cost(clip=self.num_points * len(self.half_widths) + 2)

    def load(self, dtype: DtypeName) -> Any:
        """Loads a CLIP that tells its attention."""
        loaded = clip.load(self._weights(dtype))
        loaded.model.set_attn_implementation("eager")
        return loaded

    def prepare(self, row: Row) -> ProposalSearch:
        """Returns the source and its phrase.

        Raises:
            RowError: `mask_phrase_missing`.
        """
        named = first_text(row, c.MASK_PHRASE)
        phrase = named or phrases.changed_thing(first_text(row, c.INSTRUCTION) or "")
        if not phrase:
            raise RowError(
                "mask_phrase_missing", "neither mask_phrase nor the instruction names it"
            )
        return ProposalSearch(decode(row["source_image"]).small_image(), phrase)

    def find(
        self, inputs: Sequence[ProposalSearch], model: Any, *, keep_largest: bool
    ) -> Sequence[list[Box[float]]]:
        """Returns the boxes of each source, in shares of its sides, best first."""
        del keep_largest
        attention = clip.attention(model, [search.image for search in inputs])
        texts = clip.embed_texts(model, [search.phrase for search in inputs])
        return [self._ranked(*each, model) for each in zip(inputs, attention, texts, strict=True)]

    def finding(self, row: Row, search: Any, output: Any) -> Finding:
        """Returns the box whose rank is the candidate's number."""
        del search
        box = output[int(row.get("candidate") or 0) % len(output)]
        width_px, height_px = row["width_px"], row["height_px"]
        region = np.zeros((height_px, width_px), dtype=np.bool_)
        left, right = round(box.left * width_px), round(box.right * width_px)
        top, bottom = round(box.top * height_px), round(box.bottom * height_px)
        region[top : max(bottom, top + 1), left : max(right, left + 1)] = True
        return Finding(region, "proposals")

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
        self,
        search: ProposalSearch,
        attention_hw: clip.Attention,
        text: clip.Embedding,
        model: Any,
    ) -> list[Box[float]]:
        """Returns boxes by the likeness of what they show and a text, best first."""
        boxes = self.boxes(attention_hw)
        images = clip.embed_images(model, [_crop(search.image, box) for box in boxes])
        clip.check_finite([*images, text])
        likeness = np.array([float(image @ text) for image in images])
        return [boxes[rank] for rank in np.argsort(-likeness, kind="stable")]

    def _weights(self, dtype: DtypeName) -> Checkpoint:
        return Checkpoint(name=self.checkpoint, part=clip.PART, revision=self.revision, dtype=dtype)


def _yx(places: "np.ndarray[Any, Any]", width: int) -> list[tuple[int, int]]:
    return [divmod(int(place), width) for place in places]


def _crop(image: Image.Image, box: Box[float]) -> Image.Image:
    """Returns the part of an image in a box, of at least one pixel."""
    left, top = int(box.left * image.width), int(box.top * image.height)
    right, bottom = round(box.right * image.width), round(box.bottom * image.height)
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
