"""Best of several tries: a row is edited again and again in its call, and CLIP chooses.

Papers that fill a region choose among a few fills: mask-free local editing (arXiv 2212.07603) by
the target prompt, Learnable Regions (arXiv 2311.16432) by the prompt and the source.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.controls.chooses_by_clip import ChoosesByClip
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.models import clip
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.identity import digest
from PIL import Image
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel

Drawn = NDArray[np.float32]
"""Picture of a frame's size, RGB HWC, about 0 to 255."""


class BestOf(ChoosesByClip):
    """A method that edits each row several times, and keeps the try that CLIP finds best.

    What is compared is the source outside a try's region, and the try inside.
    """

    num_candidates: int = Field(default=4, ge=1, le=100)
    """Tries of each row, the first with the row's own seed."""
    text_weight: float = Field(default=1.0, ge=0, le=100)
    """Weight of a picture's similarity to the target prompt."""
    image_weight: float = Field(default=0.0, ge=0, le=100)
    """Weight of a picture's similarity to the source."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts all tries, and their comparison with prompt and source."""
        one = super().cost(num_inference_steps)
        tries = {name: self.num_candidates * count for name, count in one.counts().items()}
        return replace(Cost(**tries), text=one.text, clip=self.num_candidates + 2)

    def tries(
        self, requests: Sequence[EditRequest], model: "LatentModel"
    ) -> Iterator[list[EditRequest]]:
        """Yields the rows as each try sees them: here with other seeds.

        Args:
            requests: rows of a full batch.
            model: the editor's model.
        """
        del model
        for number in range(self.num_candidates):
            yield [replace(each, seed=seed_of_try(each.seed, number)) for each in requests]

    def edit(self, requests: Sequence[EditRequest], model: "LatentModel") -> list[Drawn]:
        """Edits the batch once for each try, and returns each row's best."""
        tries = [self._tried(rows, model) for rows in self.tries(requests, model)]
        scores = self._scores(requests, tries)
        model.spend(Cost(clip=len(requests) * (len(tries) + 2)))
        best = np.argmax(scores, axis=0)
        return [tries[number][row] for row, number in enumerate(best)]

    def _tried(self, requests: Sequence[EditRequest], model: "LatentModel") -> list[Drawn]:
        """Edits the batch once."""
        return list(map(kept_outside, requests, super().edit(requests, model)))

    def _scores(
        self, requests: Sequence[EditRequest], tries: Sequence[Sequence[Drawn]]
    ) -> NDArray[np.float64]:
        """Returns the score of each try of each row."""
        loaded = _load_clip(self.clip_weights)
        texts = clip.embed_texts(loaded, [request.prompt for request in requests])
        sources = clip.embed_images(loaded, [Image.fromarray(each.picture) for each in requests])
        scores: list[list[float]] = []
        for drawn in tries:
            made = clip.embed_images(loaded, list(map(_image, drawn)))
            scores.append(
                [
                    self.text_weight * _likeness(image, text)
                    + self.image_weight * _likeness(image, source)
                    for image, text, source in zip(made, texts, sources, strict=True)
                ]
            )
        return np.array(scores)


def seed_of_try(seed: int, number: int) -> int:
    """Returns the seed of a row's try; the row's own for the first."""
    return int(digest([seed, number]), 16) % 2**63 if number else seed


def kept_outside(request: EditRequest, drawn: Drawn) -> Drawn:
    """Returns a picture with the source where the row's mask lets nothing change."""
    if request.mask is None:
        return drawn
    return np.where(request.mask[..., None] > 0, drawn, request.picture.astype(np.float32))


@lru_cache(maxsize=1)
def _load_clip(checkpoint: Checkpoint) -> Pretrained:
    return clip.load(checkpoint)


def _image(drawn: Drawn) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(np.nan_to_num(drawn), 0, 255)).astype(np.uint8))


def _likeness(one: Any, other: Any) -> float:
    return clip.similarity(one, other) or 0.0
