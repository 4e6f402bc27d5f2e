"""Small real operators for tests: numpy only, importable in Ray's workers.

Between the real `fetch` and `store` they make an edit: `ToyCaption` names the source's colour,
`ToyInvert` makes a state that never leaves the actor, `ToyEdit` paints, `ToyScore` measures.
An instruction can ask for trouble: `raise`, `exit`, `kill` (its process), `reject`, `lie` (other
columns), `mistype` (another type), `unsized`.
"""

import os
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.images import Picture, decode, encode
from overpaint.pipeline.operator import (
    NOT_IN_FINGERPRINT,
    Answer,
    Kind,
    NewColumns,
    Operator,
    Rejected,
    row_error_as_answer,
)
from pydantic import Field

BRIGHTNESS = c.score("brightness", "the mean of the edited pixels, 0 to 1")
DIFFERENCE = c.score("difference", "the mean change of a pixel")


class ToyOperator(Operator[Any]):
    """What the toys share: a model that counts its calls."""

    def load(self) -> dict[str, int]:
        return {"calls": 0, "rows": 0}

    def run(self, rows: Sequence[Row], model: dict[str, int]) -> list[Answer]:
        model["calls"] += 1
        model["rows"] += len(rows)
        assert 1 <= len(rows) <= self.batch_size, "a call has the rows of one batch"
        return [row_error_as_answer(self.answer, row) for row in rows]

    def answer(self, row: Row) -> NewColumns | Rejected:
        raise NotImplementedError


class ToyCaption(ToyOperator):
    kind: ClassVar[Kind] = "caption"

    batch_size: int = Field(default=2, ge=1)
    prefix: str = "mostly"
    """Says how sure it is."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        return (c.SOURCE_IMAGE,)

    @property
    def outputs(self) -> tuple[Column, ...]:
        return (c.CAPTION,)

    def answer(self, row: Row) -> NewColumns:
        means = decode(row["source_image"]).rgb.reshape(-1, 3).mean(0)
        return {"caption": f"{self.prefix} {('red', 'green', 'blue')[int(means.argmax())]}"}


class ToyInvert(ToyOperator):
    kind: ClassVar[Kind] = "invert"

    @property
    def inputs(self) -> tuple[Column, ...]:
        return (c.SOURCE_IMAGE,)

    @property
    def outputs(self) -> tuple[Column, ...]:
        return (c.INVERTED_PATH,)

    def answer(self, row: Row) -> NewColumns:
        return {"inverted_path": 255 - decode(row["source_image"]).rgb}


class ToyEdit(ToyOperator):
    kind: ClassVar[Kind] = "edit"

    batch_size: int = Field(default=4, ge=1)
    strength: float = Field(default=0.5, ge=0, le=1)
    """How much of the noise is mixed in, 0 to 1."""
    timeout_s: float = Field(default=10.0, gt=0, json_schema_extra=NOT_IN_FINGERPRINT)
    """Changes no byte."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        return (c.SOURCE_IMAGE, c.INSTRUCTION, c.SEED)

    @property
    def optional(self) -> tuple[Column, ...]:
        return (c.INVERTED_PATH, c.CAPTION)

    @property
    def outputs(self) -> tuple[Column, ...]:
        return (c.EDITED_IMAGE,)

    def bucket(self, row: Row) -> Hashable:
        if row["instruction"] == "unsized":
            raise ValueError("this row has no size")
        return decode(row["source_image"]).rgb.shape

    def answer(self, row: Row) -> NewColumns | Rejected:
        asked = row["instruction"]
        if asked == "raise":
            raise ValueError(f"cannot edit {object()!r}\nsecond line")
        if asked == "exit":
            raise SystemExit(3)
        if asked == "kill":
            os._exit(9)
        if asked == "reject":
            return Rejected("nothing_to_do", "the instruction asks for nothing")
        if asked == "lie":
            return {"edited_image": b"", "more": 1}
        if asked == "mistype":
            return {"edited_image": 3.5}
        return {"edited_image": encode(Picture(self._painted(row)))}

    def _painted(self, row: Row) -> np.ndarray:
        base = row.get("inverted_path")
        base = decode(row["source_image"]).rgb if base is None else base
        noise = np.random.default_rng(row["seed"]).integers(0, 256, base.shape)
        told = len(row["instruction"] or "") + len(row.get("caption") or "")
        return ((base + self.strength * noise + told) % 256).astype(np.uint8)


class ToyScore(ToyOperator):
    kind: ClassVar[Kind] = "score"

    batch_size: int = Field(default=3, ge=1)
    scale: float = 1.0
    """What the mean is multiplied with."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        return (c.EDITED_IMAGE,)

    @property
    def outputs(self) -> tuple[Column, ...]:
        return (BRIGHTNESS,)

    def answer(self, row: Row) -> NewColumns:
        mean = float(decode(row["edited_image"]).rgb.mean()) / 255
        return {"brightness": self.scale * mean}


class ToyCompare(ToyOperator):
    """Sees the source beside the edit, as judges do; rejects where nothing changed."""

    kind: ClassVar[Kind] = "judge"

    scale: float = 1.0
    """What the difference is multiplied with."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        return (c.SOURCE_IMAGE, c.EDITED_IMAGE, c.INSTRUCTION)

    @property
    def outputs(self) -> tuple[Column, ...]:
        return (DIFFERENCE,)

    def answer(self, row: Row) -> NewColumns | Rejected:
        pixels = [decode(row[name]).rgb.astype(float) for name in ("source_image", "edited_image")]
        difference = self.scale * float(np.abs(pixels[0] - pixels[1]).mean())
        return {"difference": difference} if difference else Rejected("unchanged", "as before")


class ToyBoxes(ToyOperator):
    """Reads a column of its own, with a type of its own."""

    kind: ClassVar[Kind] = "mask"

    @property
    def inputs(self) -> tuple[Column, ...]:
        return (Column("box", pa.list_(pa.float64()), "left, top, right, bottom"),)

    @property
    def outputs(self) -> tuple[Column, ...]:
        return (c.MASK_SOURCE,)

    def answer(self, row: Row) -> NewColumns:
        return {"mask_source": f"box of {len(row['box'])}"}


class ToyAbsent(ToyEdit):
    """An edit whose model is not to be had."""

    def load(self) -> dict[str, int]:
        raise OSError("no such model on the hub")
