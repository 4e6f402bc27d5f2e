"""`negative`: inverts the colours of each source, without a model.

It is the smallest complete editor: an example of an operator, and a stand-in for a model in tests
and benchmarks, where it can take as long as a model would.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.images import Picture, decode, encode
from overpaint.pipeline.operator import NOT_IN_FINGERPRINT, Kind, ModelOperator, NewColumns
from pydantic import Field


class Negative(ModelOperator[None, Picture, Picture]):
    """Inverts the colours of each source; transparency stays as it is.

    Example:
        >>> (answer,) = Negative().run([{"source_image": data, "image_format": "png"}], None)
        >>> decode(answer["edited_image"]).rgb[0, 0]
        array([  5, 140, 255], dtype=uint8)
    """

    kind: ClassVar[Kind] = "edit"

    batch_size: int = Field(default=8, ge=1, le=4096, json_schema_extra=NOT_IN_FINGERPRINT)
    """Rows in one call."""
    batch_ms: float = Field(default=0.0, ge=0, json_schema_extra=NOT_IN_FINGERPRINT)
    """Time that a call waits, as a model would take it, in milliseconds."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source, and the format in which the run stores images."""
        return (c.SOURCE_IMAGE, c.IMAGE_FORMAT)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The negative."""
        return (c.EDITED_IMAGE,)

    def load(self) -> None:
        """Loads nothing."""

    def prepare(self, row: Row, model: None) -> Picture:
        """Decodes a row's source.

        Raises:
            RowError: it cannot be decoded.
        """
        del model
        return decode(row["source_image"])

    def infer(self, inputs: Sequence[Picture], model: None) -> list[Picture]:
        """Waits, and inverts the colours."""
        del model
        self.wait()
        return [replace(picture, rgb=255 - picture.rgb) for picture in inputs]

    def wait(self) -> None:
        """Takes the time that a model would take for a batch."""
        time.sleep(self.batch_ms / 1000)

    def answer(self, row: Row, source: Picture, negative: Picture, model: None) -> NewColumns:
        """Encodes the negative in the run's format."""
        del source, model
        return {"edited_image": encode(negative, row["image_format"])}
