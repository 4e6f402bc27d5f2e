"""Object-aware search: how many steps an object's edit needs, and its place in the picture.

OIR (arXiv 2310.12149) edits each object from several levels of an inverted path, and takes for each
object the level whose picture says the new phrase and keeps the rest.

Shapes: j levels, b rows, c latent channels, h and w latent pixels, H and W pixels.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.framing.conditions import EditConcept, LabelledBox
from overpaint.operators.models import clip
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.conditions import BOXES
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import Pixels
from PIL import Image

Region = NDArray[np.float32]
"""Share of each pixel that belongs to an object, HW, 0 to 1."""


class Replacement(NamedTuple):
    """One object that changes.

    Attributes:
        new: phrase of the edited picture.
        old: phrase of the source.
    """

    new: str
    old: str

    def in_prompt(self, source_prompt: str, target_prompt: str) -> str:
        """Returns the source prompt with this change alone; the target prompt if it lacks it."""
        if self.old not in source_prompt:
            return target_prompt
        return source_prompt.replace(self.old, self.new, 1)


def replacements(concepts: Sequence[EditConcept]) -> list[Replacement]:
    """Returns the changes of a row: each a phrase to add, and after it the one that it replaces.

    Raises:
        RowError: `edit_concepts_invalid`: they do not come in such pairs.
    """
    pairs = list(zip(concepts[::2], concepts[1::2], strict=False))
    is_paired = all(old.reverse and not new.reverse for new, old in pairs)
    if len(concepts) % 2 or not is_paired:
        message = "concepts are not pairs of a phrase to add and the one that it replaces"
        raise RowError("edit_concepts_invalid", message)
    return [Replacement(new.prompt, old.prompt) for new, old in pairs]


def region(request: EditRequest, change: Replacement) -> Region:
    """Returns the place of an object: its labelled box, or else the row's mask, or everything."""
    boxes: list[LabelledBox] = request.values.get(BOXES.name) or []
    named = [box for box in boxes if box.label in change]
    if not named:
        whole = np.ones(request.picture.shape[:2], np.float32)
        return whole if request.mask is None else request.mask
    found = np.zeros(request.picture.shape[:2], np.float32)
    for box in named:
        rows = slice(round(box.top_px), round(box.bottom_px))
        found[rows, round(box.left_px) : round(box.right_px)] = 1.0
    return found


def best_levels(
    batch: Batch,
    weights: Checkpoint,
    changes: Sequence[Replacement],
    places: Sequence[Region],
    pictures: Sequence[Sequence[NDArray[np.float32]]],
) -> list[int]:
    """Returns the number of the best level for each row.

    Args:
        batch: rows.
        weights: those of a CLIP.
        changes: one object of each row.
        places: the objects' regions.
        pictures: edits, by level and row.
    """
    model = load_clip(weights)
    phrases = clip.embed_texts(model, [change.new for change in changes])
    batch.model.spend(Cost(clip=len(phrases) * (len(pictures) + 1)))
    scores: list[list[float]] = []
    for level in pictures:
        images = clip.embed_images(model, list(map(object_alone, level, places)))
        scores.append(list(map(similarity, images, phrases)))
    rows = zip(zip(*pictures, strict=True), zip(*scores, strict=True), strict=True)
    return [
        best_level(edits, similar, request.picture, place)
        for (edits, similar), request, place in zip(rows, batch.requests, places, strict=True)
    ]


def best_level(
    pictures: Sequence[NDArray[np.float32]],
    similarities: Sequence[float],
    source: Pixels,
    place: Region,
) -> int:
    """Returns the number of the picture with the highest score; of equal ones the first.

    The score is the object's similarity to its new phrase, less the mean squared error of the rest,
    each scaled to 0 to 1 over the pictures. The official code divides by 0 where all are equal.

    Args:
        pictures: an object's edits, RGB HWC.
        similarities: similarity of each to the phrase.
        source: the source in their frame.
        place: the object's region.
    """
    outside = 1.0 - place[..., None]
    errors = [float((outside * (each - source) ** 2).mean()) for each in pictures]
    return int(np.argmax(_scaled(similarities) - _scaled(errors)))


def object_alone(picture: NDArray[np.float32], place: Region) -> Image.Image:
    """Returns the part of a picture that shows an object, with grey around it.

    The paper restricts the attention of CLIP to the object instead.
    """
    pixels = np.where(place[..., None] >= 0.5, np.clip(np.nan_to_num(picture), 0, 255), 127.5)
    rows, columns = np.nonzero(place >= 0.5)
    if rows.size:
        pixels = pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


@lru_cache(maxsize=1)
def load_clip(checkpoint: Checkpoint) -> Pretrained:
    """Loads a CLIPModel checkpoint; a second call returns the one already loaded."""
    return clip.load(checkpoint)


def similarity(one: Any, other: Any) -> float:
    """Returns the cosine of two embeddings; 0 where one has no direction."""
    return clip.similarity(one, other) or 0.0


def _scaled(values: Sequence[float]) -> NDArray[np.float64]:
    numbers = np.asarray(values, np.float64)
    spread = numbers.max() - numbers.min()
    return (numbers - numbers.min()) / spread if spread > 0.0 else np.zeros_like(numbers)
