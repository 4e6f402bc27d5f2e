"""`store`: writes each edited image and its masks into the run folder, under the row's key.

Where a plan packs pictures it names them alone, and the runner writes those of a task together.
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ClassVar

import pyarrow as pa
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.identity import sha256
from overpaint.pipeline.operator import (
    NOT_IN_FINGERPRINT,
    Answer,
    Calls,
    Kind,
    NewColumns,
    Operator,
    row_error_as_answer,
)
from overpaint.pipeline.runs.folder import object_paths
from overpaint.pipeline.runs.shards import member_names
from overpaint.pipeline.storage.store import Storage
from pydantic import Field

MASK_SHA256 = Column("mask_sha256", pa.string(), "SHA-256 of the stored mask")
EDITABLE_MASK_SHA256 = Column(
    "editable_mask_sha256", pa.string(), "SHA-256 of the stored mask that was really editable"
)

_OUTPUTS = (
    *(c.EDITED_URI, c.EDITED_SHA256),
    *(c.MASK_URI, MASK_SHA256),
    *(c.EDITABLE_MASK_URI, EDITABLE_MASK_SHA256),
)
_KEY = re.compile(r"[0-9a-f]{32}")
_NUM_THREADS = 16


class Store(Operator[ThreadPoolExecutor]):
    """Writes images, masks and editable masks, each in one step."""

    kind: ClassVar[Kind] = "store"

    batch_size: int = Field(default=8, ge=1, le=4096, json_schema_extra=NOT_IN_FINGERPRINT)
    """Rows that are written at once."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The edited image, its key and format, and the run folder."""
        return (c.KEY, c.EDITED_IMAGE, c.RUN_URI, c.IMAGE_FORMAT)

    @property
    def optional(self) -> tuple[Column, ...]:
        """The mask, the mask that was really editable, and whether the runner packs them."""
        return (c.MASK_IMAGE, c.EDITABLE_MASK_IMAGE, c.IS_PACKED)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The paths of the objects, relative to the run folder, or the members' names; hashes."""
        return _OUTPUTS

    def load(self) -> ThreadPoolExecutor:
        """Starts threads that write at the same time, once: that takes longer than to write."""
        return ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="store")

    def run(self, rows: Sequence[Row], model: ThreadPoolExecutor) -> list[Answer]:
        """Writes each row's objects; writing a row again writes the same bytes."""
        return list(model.map(partial(row_error_as_answer, _store), rows))

    def run_by(self, rows: Sequence[Row], model: ThreadPoolExecutor, calls: Calls) -> list[Answer]:
        """Writes beside the models."""
        del calls
        return self.run(rows, model)


def _store(row: Row) -> NewColumns:
    key: str = row["key"]
    if not _KEY.fullmatch(key):
        raise RowError("bad_key", "a key is 32 hex digits: it names files")
    # The image last: where it is, its masks are too.
    mask = _write(row, c.MASK_URI, row.get("mask_image"))
    editable = _write(row, c.EDITABLE_MASK_URI, row.get("editable_mask_image"))
    edited = _write(row, c.EDITED_URI, row["edited_image"])
    values = (*edited, *mask, *editable)
    return {column.name: value for column, value in zip(_OUTPUTS, values, strict=True)}


def _write(row: Row, uri: Column, data: bytes | None) -> tuple[str | None, str | None]:
    """Writes an object, or leaves it to the runner, which packs it.

    Returns:
        Its path, or the name of its member, and its hash; nothing where there is no object.
    """
    if data is None:
        return None, None
    if row.get(c.IS_PACKED.name):
        return member_names(row["key"], row["image_format"])[uri.name], sha256(data)
    path = object_paths(row["key"], row["image_format"])[uri.name]
    Storage(row["run_uri"]).write(path, data)
    return path, sha256(data)
