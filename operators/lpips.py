"""`lpips`: perceptual distance of the background, normalised by its area.

The weights are the authors' own, in a folder that is made once where their package `lpips` is
installed, see `operators/models/lpips.py`; nothing but torch is needed to use them.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from overpaint.operators.measures.fidelity import pie_pair
from overpaint.operators.measures.pair import MASKS, PAIR, Pair, read_pair
from overpaint.operators.models import lpips
from overpaint.operators.models.lpips import Lpips as Network
from overpaint.operators.models.uses_checkpoint import UsesCheckpoint
from overpaint.pipeline.columns import Column, Row, score
from overpaint.pipeline.images import Pixels
from overpaint.pipeline.operator import Answer, Calls, Kind, NewColumns, row_error_as_answer
from PIL import Image
from pydantic import Field

LPIPS_BG = score("lpips_bg", "LPIPS of the background over its share of the picture, 0 and up")
PIE_LPIPS = score("pie_lpips", "PIE-Bench's LPIPS of the background, 0 and up")


class Lpips(UsesCheckpoint[Network]):
    """Measures how far the background looks like the source's (LPIPS 0.1, arXiv 1801.03924).

    `lpips_bg` is the LPIPS between the source and the edit with the source put in where it may
    change, divided by the background's share of the picture (region LPIPS of GEditBench v2, arXiv
    2603.28547); null without a mask or a background. Rows are measured one by one, at their own
    proportions.
    """

    kind: ClassVar[Kind] = "score"
    part: ClassVar[str] = "lpips"

    checkpoint: str = Field(default=...)
    """Weights: a folder with `config.json`, which names the net, and `model.safetensors`."""
    max_side_px: int = Field(default=512, ge=32, le=4096)
    """Longest side at which pictures are compared; larger ones are reduced."""
    pie: bool = False
    """Whether `pie_lpips` is added: both pictures black inside the mask, the whole frame counted;
    PIE-Bench takes the net squeeze at 512 px."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """Both images."""
        return PAIR

    @property
    def optional(self) -> tuple[Column, ...]:
        """The masks."""
        return MASKS

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The distance of the background, and PIE-Bench's where it is asked for."""
        return (LPIPS_BG, *((PIE_LPIPS,) if self.pie else ()))

    def check(self) -> None:
        """Checks that the weights are there."""
        lpips.check_folder(self.weights)

    def load(self) -> Network:
        """Loads the network."""
        return lpips.load(self.weights)

    def run(self, rows: Sequence[Row], model: Network) -> list[Answer]:
        """Measures each row."""
        return self.run_by(rows, model, Calls())

    def run_by(self, rows: Sequence[Row], model: Network, calls: Calls) -> list[Answer]:
        """Decodes rows beside the models, and measures one after the other."""
        pairs = calls.beside(lambda row: row_error_as_answer(read_pair, row), rows)
        return [
            calls.model(self._measured, pair, model) if isinstance(pair, Pair) else pair
            for pair in pairs
        ]

    def _measured(self, pair: Pair, model: Network) -> NewColumns:
        found = {LPIPS_BG.name: self._background(pair, model)}
        if self.pie:
            masked = pie_pair(pair)
            found[PIE_LPIPS.name] = self._distance(model, masked) if masked else None
        return found

    def _background(self, pair: Pair, model: Network) -> float | None:
        if pair.mask is None:
            return None
        weight = 1 - pair.mask.astype(np.float32) / 255
        share = float(weight.mean())
        if share == 0:
            return None
        mixed = pair.source + weight[..., None] * (pair.edited.astype(np.float32) - pair.source)
        composite = (mixed + 0.5).astype(np.uint8)
        distance = self._distance(model, Pair(pair.source, composite))
        return None if distance is None else distance / share

    def _distance(self, model: Network, pair: Pair) -> float | None:
        one, other = (_at_most(pixels, self.max_side_px) for pixels in pair[:2])
        if min(one.shape[:2]) < lpips.LEAST_SIDE_PX:
            return None
        return model.distance(one, other)


def _at_most(pixels: Pixels, side_px: int) -> Any:
    """Returns a picture, float32 0 to 1, reduced to a longest side."""
    height, width = pixels.shape[:2]
    share = side_px / max(height, width)
    if share < 1:
        size = (max(1, round(width * share)), max(1, round(height * share)))
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    return pixels.astype(np.float32) / 255
