"""Learnable Regions (arXiv 2311.16432): boxes around salient points, each filled; CLIP chooses.

The paper trains a network for each picture that picks one of the boxes, by CLIP's scores of what an
editor makes of them; its official code cannot learn through the editor and amounts to as many draws
as it has iterations. Here the boxes that CLIP ranks first are tried, and its points are those that
CLIP attends to instead of DINO's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.controls.best_of import BestOf
from overpaint.operators.controls.box_proposals import BoxProposals, load_attending, pixels_of
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.framing.masks import Box
from overpaint.operators.methods.inpaint import Inpaint
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline import columns as c
from overpaint.pipeline.conditions import MASK
from overpaint.pipeline.cost import Cost
from PIL import Image
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel


class TDIELR(BestOf, BoxProposals, Inpaint):
    """Fills the boxes that look most like a phrase, and keeps the best of them.

    Best is the most of 2 times the similarity to the target prompt and once that to the source, as
    in the paper. A row with a mask of its own has that in place of boxes.
    """

    papers = ("2311.16432", "2112.10752")
    family = "F07"
    edit_types = ("replace", "remove")
    needs = (c.MASK_PHRASE,)
    uses = (MASK,)

    num_candidates: int = Field(default=10, ge=1, le=100)
    """Boxes that are filled; 10 in the official code, whose iterations they are."""
    text_weight: float = Field(default=2.0, ge=0, le=100)
    """Weight of a picture's similarity to the target prompt; 2 in the official code."""
    image_weight: float = Field(default=1.0, ge=0, le=100)
    """Weight of a picture's similarity to the source; 1 in the official code."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the search for boxes too."""
        return super().cost(num_inference_steps) + Cost(clip=self.num_embeddings)

    def tries(
        self, requests: Sequence[EditRequest], model: "LatentModel"
    ) -> Iterator[list[EditRequest]]:
        """Yields the rows with one box after the other, the best first, and other seeds."""
        found = self.ranked(
            [Image.fromarray(request.picture) for request in requests],
            [request.values[c.MASK_PHRASE.name] for request in requests],
            _load_attending(self.clip_weights),
        )
        model.spend(Cost(clip=len(requests) * self.num_embeddings))
        for number, rows in enumerate(super().tries(requests, model)):
            yield [
                row
                if row.mask is not None
                else replace(row, mask=_mask(row, boxes[number % len(boxes)]))
                for row, boxes in zip(rows, found, strict=True)
            ]


def _mask(request: EditRequest, box: Box[float]) -> NDArray[np.float32]:
    height_px, width_px = request.picture.shape[:2]
    return pixels_of(box, width_px, height_px).astype(np.float32)


@lru_cache(maxsize=1)
def _load_attending(checkpoint: Checkpoint) -> Pretrained:
    return load_attending(checkpoint)
