"""`hash_source`: the perceptual hash of each source, which finds near-duplicates in a data set.

It needs no edit, so that a run of it alone (recipe `hashes`) comes before any model: `overpaint
dedupe` reads its hashes and writes which sources to refuse.
"""

from collections.abc import Sequence
from typing import ClassVar

from overpaint.operators.measures.perceptual_hash import perceptual_hash
from overpaint.operators.phash import PHASH_SOURCE
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.images import decode
from overpaint.pipeline.operator import (
    NOT_IN_FINGERPRINT,
    Answer,
    Calls,
    Kind,
    NewColumns,
    Operator,
    row_error_as_answer,
)
from pydantic import Field


class HashSource(Operator[None]):
    """Hashes each source as `phash` does, without an edit beside it."""

    kind: ClassVar[Kind] = "score"

    batch_size: int = Field(default=8, ge=1, le=4096, json_schema_extra=NOT_IN_FINGERPRINT)
    """Sources in one call."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source."""
        return (c.SOURCE_IMAGE,)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The hash."""
        return (PHASH_SOURCE,)

    def load(self) -> None:
        """Loads nothing."""

    def run(self, rows: Sequence[Row], model: None) -> list[Answer]:
        """Hashes each source."""
        return self.run_by(rows, model, Calls())

    def run_by(self, rows: Sequence[Row], model: None, calls: Calls) -> list[Answer]:
        """Hashes sources beside the models."""
        del model
        return calls.beside(lambda row: row_error_as_answer(_hashed, row), rows)


def _hashed(row: Row) -> NewColumns:
    return {PHASH_SOURCE.name: perceptual_hash(decode(row["source_image"]).image())}
