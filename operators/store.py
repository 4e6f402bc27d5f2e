"""Store: writes each edited image and its mask into the run folder, under the row's key."""

from collections.abc import Sequence
from typing import Any, ClassVar

from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.identity import sha256
from overpaint.pipeline.operator import Kind, NewColumns, Operator, Rejected
from overpaint.pipeline.storage import Storage


class Store(Operator[None]):
    """Writes images/<2 hex>/<key>.<format> and masks/<2 hex>/<key>.png, each in one step."""

    kind: ClassVar[Kind] = "store"

    @property
    def pads(self) -> bool:
        """Rows are written one by one."""
        return False

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The edited image, its key, and where the run lies."""
        return (c.KEY, c.EDITED_IMAGE, c.RUN_URI, c.IMAGE_FORMAT)

    @property
    def optional(self) -> tuple[Column, ...]:
        """The mask, where the plan makes one."""
        return (c.MASK_IMAGE,)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """Where the objects lie, relative to the run folder, and the image's hash."""
        return (c.EDITED_URI, c.EDITED_SHA256, c.MASK_URI)

    def load(self) -> None:
        """Loads nothing."""

    def run(self, rows: Sequence[Row], model: Any) -> list[NewColumns | Rejected]:
        """Writes each row's objects; writing the same row again writes the same bytes."""
        return [_stored(row) for row in rows]


def _stored(row: Row) -> NewColumns:
    storage, key = Storage(row["run_uri"]), row["key"]
    edited, mask = row["edited_image"], row.get("mask_image")
    edited_uri = f"images/{key[:2]}/{key}.{row['image_format']}"
    mask_uri = f"masks/{key[:2]}/{key}.png" if mask is not None else None
    storage.write(edited_uri, edited)
    if mask_uri is not None:
        storage.write(mask_uri, mask)
    return {
        c.EDITED_URI.name: edited_uri,
        c.EDITED_SHA256.name: sha256(edited),
        c.MASK_URI.name: mask_uri,
    }
