"""References as pictures of the source's size: framed whole, or pasted where they are wanted."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.framing.masks import bounding_box
from overpaint.pipeline.conditions import BOXES, REFERENCE_MASK, REFERENCES
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import Pixels
from PIL import Image, ImageOps


class Pasted(NamedTuple):
    """A reference at its place in a row's picture.

    Attributes:
        picture: the source with the reference on it, RGB uint8 HWC.
        shape: places of the object, float32 HW, 0 or 1.
        region: places where the object is wanted, float32 HW, 0 or 1.
    """

    picture: Pixels
    shape: NDArray[np.float32]
    region: NDArray[np.float32]


def framed_references(batch: Batch) -> list[Pixels]:
    """Returns the first reference of each row, filling the size of the source, its edges cut."""
    sizes = [request.picture.shape[1::-1] for request in batch.requests]
    references = [Image.fromarray(_reference(request)) for request in batch.requests]
    fitted = [
        ImageOps.fit(reference, (width, height), Image.Resampling.LANCZOS)
        for reference, (width, height) in zip(references, sizes, strict=True)
    ]
    return [np.asarray(picture, dtype=np.uint8) for picture in fitted]


def pasted_reference(request: EditRequest, *, with_surroundings: bool) -> Pasted:
    """Pastes what a row's reference mask shows into its mask, or else into its box.

    The object is as large as it can be there, of its own proportions.

    Args:
        request: row with a reference.
        with_surroundings: True pastes the rectangle around the object, False the object alone.

    Raises:
        RowError: `references_missing`, `boxes_missing`, `mask_empty`.
    """
    reference = _reference(request)
    shape = _shape(request, reference)
    box = bounding_box(shape)
    if box is None:
        raise RowError("mask_empty", "the reference mask shows nothing")
    left, top, right, bottom = _place(request)
    scale = min((right - left) / (box.right - box.left), (bottom - top) / (box.bottom - box.top))
    width = max(1, round((box.right - box.left) * scale))
    height = max(1, round((box.bottom - box.top) * scale))
    x, y = left + (right - left - width) // 2, top + (bottom - top - height) // 2
    cut = np.s_[box.top : box.bottom, box.left : box.right]
    small = _resized(reference[cut], (width, height))
    own = _resized(shape[cut].astype(np.uint8) * 255, (width, height)) >= 128
    whole = np.s_[y : y + height, x : x + width]
    picture, pasted, region = (
        request.picture.copy(),
        np.zeros(request.picture.shape[:2], np.float32),
        np.zeros(request.picture.shape[:2], np.float32),
    )
    drawn = np.ones_like(own) if with_surroundings else own
    picture[whole] = np.where(drawn[..., None], small, picture[whole])
    pasted[whole] = own
    region[top:bottom, left:right] = 1.0
    return Pasted(picture, pasted, region)


def _reference(request: EditRequest) -> Pixels:
    references: list[Pixels] = request.values[REFERENCES.name]
    if not references:
        raise RowError("references_missing", "the row has no reference")
    return references[0]


def _shape(request: EditRequest, reference: Pixels) -> NDArray[np.bool_]:
    """Returns the places of a reference, HW, that its mask shows; all where it has none."""
    mask: NDArray[np.float32] | None = request.values.get(REFERENCE_MASK.name)
    if mask is None:
        return np.ones(reference.shape[:2], np.bool_)
    height, width = reference.shape[:2]
    return _resized((mask * 255).round().astype(np.uint8), (width, height)) >= 128


def _place(request: EditRequest) -> tuple[int, int, int, int]:
    """Returns the box of the mask, or else the row's first box, in pixels of the picture."""
    box = None if request.mask is None else bounding_box(request.mask > 0)
    if box is not None:
        return box.left, box.top, box.right, box.bottom
    boxes: list[Any] = request.values.get(BOXES.name) or []
    if not boxes:
        raise RowError("boxes_missing", "neither a mask nor a box says where the reference goes")
    left, top = round(boxes[0].left_px), round(boxes[0].top_px)
    return (
        left,
        top,
        max(round(boxes[0].right_px), left + 1),
        max(round(boxes[0].bottom_px), top + 1),
    )


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize(size, Image.Resampling.BOX), dtype=np.uint8)
