"""`structure`: likeness of an edit and its source by a vision transformer, and of their layouts.

`dinov2_sim` says how far the whole kept its content, `structure_dist` how far its layout, whatever
its colours and textures. Any checkpoint of transformers with a class token serves; thresholds hold
for the model and the side that they were found with:

- UltraEdit's `dinov2_sim` (accepted from 0.4): facebook/dinov2-with-registers-large,
  `side_px = 518`, `normalize = false`.
- PIE-Bench's structure distance (published times 1000): facebook/dino-vitb8, `side_px = 224`,
  `pie_compat = true`.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from overpaint.operators.measures.pair import PAIR
from overpaint.operators.models import self_similarity
from overpaint.operators.models.self_similarity import Structure as Tokens
from overpaint.operators.models.self_similarity import StructureModel
from overpaint.operators.models.uses_checkpoint import UsesCheckpoint
from overpaint.pipeline.columns import Column, Row, score
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import decode
from overpaint.pipeline.operator import Kind, ModelOperator, NewColumns
from PIL import Image
from pydantic import Field

DINOV2_SIM = score("dinov2_sim", "cosine of the class tokens of source and edit, -1 to 1")
STRUCTURE_DIST = score("structure_dist", "mean squared difference of self-similarities, 0 to 4")


class _Squares(NamedTuple):
    """Pictures of a row as the model sees them.

    Attributes:
        source: the source.
        edited: the edit.
    """

    source: Image.Image
    edited: Image.Image


class _Compared(NamedTuple):
    """Figures of a row.

    Attributes:
        similarity: cosine of the class tokens.
        distance: structure distance.
    """

    similarity: float
    distance: float


class Structure(UsesCheckpoint[StructureModel], ModelOperator[StructureModel, _Squares, _Compared]):
    """Compares each edit with its source by the tokens of a vision transformer.

    `dinov2_sim` is the cosine of the class tokens after the last layer; `structure_dist` the mean
    squared difference between the cosine self-similarities of the keys of the last layer (Splice,
    arXiv 2201.00424; PIE-Bench, arXiv 2310.01506). Both pictures are squeezed to a square.
    """

    kind: ClassVar[Kind] = "score"
    part: ClassVar[str] = "dino"

    checkpoint: str = Field(default=...)
    """Weights: a local folder or a hub id of a vision transformer, such as facebook/dinov2-base."""
    side_px: int = Field(default=224, ge=1, le=2048)
    """Side of the square that the model sees, in pixels; the largest of whole patches within it."""
    normalize: bool = True
    """Whether ImageNet's mean and standard deviation are taken out, as the models were trained."""
    pie_compat: bool = False
    """Whether pixels of 0 to 255 go into that, as in PIE-Bench's code, scaled bilinearly."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """Both images."""
        return PAIR

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The similarity and the distance."""
        return (DINOV2_SIM, STRUCTURE_DIST)

    def load(self) -> StructureModel:
        """Loads the vision transformer."""
        return self_similarity.load(self.weights)

    def prepare(self, row: Row, model: StructureModel) -> _Squares:
        """Returns both pictures as the model sees them."""
        resample = Image.Resampling.BILINEAR if self.pie_compat else Image.Resampling.BICUBIC
        return _Squares(
            *(
                self_similarity.square(
                    model, decode(row[column.name]).small_image(), self.side_px, resample
                )
                for column in PAIR
            )
        )

    def infer(self, inputs: Sequence[_Squares], model: StructureModel) -> list[_Compared]:
        """Compares the tokens of each pair."""
        sources, edits = (self._tokens([pair[place] for pair in inputs], model) for place in (0, 1))
        return [
            _Compared(source.similarity(edited), source.distance(edited))
            for source, edited in zip(sources, edits, strict=True)
        ]

    def _tokens(self, squares: Sequence[Image.Image], model: StructureModel) -> list[Tokens]:
        top = 255.0 if self.pie_compat else 1.0
        return self_similarity.structures(model, squares, normalize=self.normalize, top=top)

    def answer(
        self, row: Row, squares: _Squares, compared: _Compared, model: StructureModel
    ) -> NewColumns:
        """Returns the figures.

        Raises:
            RowError: `nan_in_result`.
        """
        del row, squares, model
        if not all(math.isfinite(value) for value in compared):
            raise RowError("nan_in_result", "the tokens hold no numbers: try dtype float32")
        return {DINOV2_SIM.name: compared.similarity, STRUCTURE_DIST.name: compared.distance}
