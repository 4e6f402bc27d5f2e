"""Measures of pixels: a subclass names its columns, and computes them from a pair.

class Brightness(PixelMeasure):
    \"\"\"Measures the brightness of each edit.\"\"\"

    columns = (score("brightness", "mean of the edited pixels, 0 to 1"),)

    def measure(self, pair: Pair, row: Row) -> NewColumns:
        return {"brightness": float(pair.edited.mean()) / 255}
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from overpaint.operators.measures.pair import MASKS, PAIR, Pair, read_pair
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.operator import (
    NOT_IN_FINGERPRINT,
    Answer,
    Calls,
    Kind,
    NewColumns,
    Operator,
    Rejected,
    row_error_as_answer,
)
from pydantic import Field

__all__ = ["Pair", "PixelMeasure"]


class PixelMeasure(Operator[None]):
    """Operator that measures each edit from its pixels and those of its source, without a model."""

    kind: ClassVar[Kind] = "score"
    columns: ClassVar[tuple[Column, ...]]
    """Columns that it adds."""
    reads: ClassVar[tuple[Column, ...]] = ()
    """Columns that it uses beside the images, where the plan has them."""

    batch_size: int = Field(default=8, ge=1, le=4096, json_schema_extra=NOT_IN_FINGERPRINT)
    """Rows in one call."""

    @abstractmethod
    def measure(self, pair: Pair, row: Row) -> NewColumns | Rejected:
        """Returns the columns of one row.

        Args:
            pair: source and edit, with the mask that was really editable.
            row: has `reads`, null where the plan lacks them.

        Raises:
            RowError: the row cannot be measured.
        """

    @property
    def inputs(self) -> tuple[Column, ...]:
        """Both images."""
        return PAIR

    @property
    def optional(self) -> tuple[Column, ...]:
        """The masks, and what else is read."""
        return (*MASKS, *self.reads)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The measured columns."""
        return self.columns

    def load(self) -> None:
        """Loads nothing."""

    def run(self, rows: Sequence[Row], model: None) -> list[Answer]:
        """Measures each row."""
        return self.run_by(rows, model, Calls())

    def run_by(self, rows: Sequence[Row], model: None, calls: Calls) -> list[Answer]:
        """Measures rows beside the models."""
        del model
        return calls.beside(lambda row: row_error_as_answer(self._measured, row), rows)

    def _measured(self, row: Row) -> NewColumns | Rejected:
        return self.measure(read_pair(row), row)
