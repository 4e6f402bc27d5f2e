"""Store: writes each edited image and its mask into the run folder, under the row's key."""

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
    Kind,
    NewColumns,
    Operator,
    row_error_as_answer,
)
from overpaint.pipeline.runs.folder import image_path, mask_path
from overpaint.pipeline.storage.store import Storage
from pydantic import Field

MASK_SHA256 = Column("mask_sha256", pa.string(), "of the stored mask")

_KEY = re.compile(r"[0-9a-f]{32}")
_NUM_THREADS = 16


class Store(Operator[ThreadPoolExecutor]):
    """Writes images/<2 hex>/<key>.<format> and masks/<2 hex>/<key>.png, each in one step."""

    kind: ClassVar[Kind] = "store"

    batch_size: int = Field(default=8, ge=1, le=4096, json_schema_extra=NOT_IN_FINGERPRINT)
    """Rows that are written at once."""

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
        """Where the objects lie, relative to the run folder, and their hashes."""
        return (c.EDITED_URI, c.EDITED_SHA256, c.MASK_URI, MASK_SHA256)

    def load(self) -> ThreadPoolExecutor:
        """Threads that write at the same time, started once: that takes longer than to write."""
        return ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="store")

    def run(self, rows: Sequence[Row], model: ThreadPoolExecutor) -> list[Answer]:
        """Writes each row's objects; writing a row again writes the same bytes."""
        return list(model.map(partial(row_error_as_answer, _stored), rows))


def _stored(row: Row) -> NewColumns:
    key: str = row[c.KEY.name]
    if not _KEY.fullmatch(key):
        raise RowError("bad_key", "a key is 32 hex digits: it names files")
    edited: bytes = row[c.EDITED_IMAGE.name]
    mask: bytes | None = row.get(c.MASK_IMAGE.name)
    storage = Storage(row[c.RUN_URI.name])
    edited_uri = image_path(key, row[c.IMAGE_FORMAT.name])
    mask_uri = mask_path(key) if mask is not None else None
    # The image last: where it lies, its mask lies too.
    if mask_uri is not None and mask is not None:
        storage.write(mask_uri, mask)
    storage.write(edited_uri, edited)
    return {
        c.EDITED_URI.name: edited_uri,
        c.EDITED_SHA256.name: sha256(edited),
        c.MASK_URI.name: mask_uri,
        MASK_SHA256.name: sha256(mask) if mask is not None else None,
    }
