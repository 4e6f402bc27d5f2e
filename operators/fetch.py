"""Fetch: a first version, files and object stores."""

from collections.abc import Sequence
from typing import Any, ClassVar

from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.identity import sha256
from overpaint.pipeline.images import decode
from overpaint.pipeline.operator import Kind, NewColumns, Operator, Rejected
from overpaint.pipeline.storage import join, read_uri


class Fetch(Operator[None]):
    """Reads each source and decodes it once, so that a broken one fails here."""

    kind: ClassVar[Kind] = "fetch"

    @property
    def inputs(self) -> tuple[Column, ...]:
        """Where the source lies."""
        return (c.SOURCE_URI, c.BASE_URI)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The bytes, their hash, and the upright size."""
        return (c.SOURCE_IMAGE, c.SOURCE_SHA256, c.WIDTH_PX, c.HEIGHT_PX)

    def load(self) -> None:
        """Loads nothing."""

    def run(self, rows: Sequence[Row], model: Any) -> list[NewColumns | Rejected]:
        """Reads each source."""
        return [_fetched(row) for row in rows]


def _fetched(row: Row) -> NewColumns:
    try:
        data = read_uri(join(row["base_uri"], row["source_uri"]))
    except FileNotFoundError as error:
        raise RowError("source_missing", f"nothing lies at {row['source_uri']}") from error
    picture = decode(data)
    return {
        "source_image": data,
        "source_sha256": sha256(data),
        "width_px": picture.width_px,
        "height_px": picture.height_px,
    }
