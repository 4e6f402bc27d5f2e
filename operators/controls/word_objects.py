"""Objects that words name and boxes place, for energies of attention.

Shapes: b rows, k tokens, h and w latent pixels.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.controls.words import aligned_weights
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.framing.conditions import LabelledBox
from overpaint.pipeline import columns as c
from overpaint.pipeline.conditions import BOXES
from overpaint.pipeline.errors import RowError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WordObjects:
    """An object of each row, by its words and the region where it is wanted.

    Attributes:
        source_bk: weights of its tokens in the source prompt; 0 where only the target has it.
        target_bk: weights of its tokens in the target prompt.
        region_b1hw: its box, or the row's mask.
        has_region_b: 1 where a row has either, else 0.
    """

    source_bk: "Tensor"
    target_bk: "Tensor"
    region_b1hw: "Tensor"
    has_region_b: "Tensor"


def word_objects(batch: Batch) -> WordObjects:
    """Finds the object of each row: that of `mask_phrase`, or that of a box which is new.

    The region is the box that is labelled with the words, or the row's mask where none is.

    Raises:
        RowError: `mask_phrase_missing`: nothing names an object; `phrase_not_in_prompt`.
    """
    import torch
    from overpaint.operators.diffusion.latents import latent_masks

    like, sources = batch.trajectory_sbchw[0], batch.source_prompts()
    weights: list[tuple[Tensor, Tensor]] = []
    regions: list[NDArray[np.float32] | None] = []
    for request, source in zip(batch.requests, sources, strict=True):
        phrase, box = _object_of(request, source)
        weights.append(aligned_weights(batch.model, source, request.prompt, phrase))
        regions.append(request.mask if box is None else _filled(box, request))
    everywhere = np.ones(batch.requests[0].picture.shape[:2], np.float32)
    has_region = [0.0 if region is None else 1.0 for region in regions]
    filled = [everywhere if region is None else region for region in regions]
    return WordObjects(
        source_bk=torch.stack([source for source, _ in weights]),
        target_bk=torch.stack([target for _, target in weights]),
        region_b1hw=latent_masks(filled, like),
        has_region_b=torch.tensor(has_region, device=like.device),
    )


def _object_of(request: EditRequest, source_prompt: str) -> tuple[str, LabelledBox | None]:
    """Returns the words of a row's object, and its box where it has one."""
    boxes: list[LabelledBox] = request.values.get(BOXES.name) or []
    phrase: str = request.values.get(c.MASK_PHRASE.name) or ""
    if not phrase:
        new = (box for box in boxes if box.label and box.label not in source_prompt)
        if (box := next(new, None)) is None or box.label is None:
            raise RowError("mask_phrase_missing", "neither a mask_phrase nor a box names an object")
        return box.label, box
    return phrase, next((box for box in boxes if box.label == phrase), None)


def _filled(box: LabelledBox, request: EditRequest) -> NDArray[np.float32]:
    """Returns a box as a mask of a row's picture, HW, 0 or 1."""
    mask = np.zeros(request.picture.shape[:2], np.float32)
    top, bottom = (round(edge) for edge in (box.top_px, box.bottom_px))
    left, right = (round(edge) for edge in (box.left_px, box.right_px))
    mask[top : max(bottom, top + 1), left : max(right, left + 1)] = 1.0
    return mask
