"""Fetch: reads each source and decodes it once, so that a broken or forbidden one fails here."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from overpaint.operators.sources.access import MAX_BYTES, OBJECT_STORES, Access, Reader
from overpaint.operators.sources.web import DownloadLimits
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.identity import sha256
from overpaint.pipeline.images import MAX_PIXELS, Picture, decode, decode_mask, encode_mask
from overpaint.pipeline.operator import (
    NOT_IN_FINGERPRINT,
    Answer,
    Kind,
    NewColumns,
    Operator,
    row_error_as_answer,
)
from pydantic import Field

GIVEN = "given"
"""The `mask_source` of a mask that came with the table."""


class Fetch(Operator[Reader]):
    """Reads each source, and with `read_mask` the mask that the table gives for it."""

    kind: ClassVar[Kind] = "fetch"

    batch_size: int = Field(default=8, ge=1, le=4096, json_schema_extra=NOT_IN_FINGERPRINT)
    """Sources that are read at once."""
    read_mask: bool = False
    """Whether the table's `mask_uri` is read: white may change, black is kept."""
    max_pixels: int = Field(
        default=MAX_PIXELS, ge=1, le=MAX_PIXELS, json_schema_extra=NOT_IN_FINGERPRINT
    )
    """Larger images fail before they are decoded."""
    max_bytes: int = Field(default=MAX_BYTES, ge=1, json_schema_extra=NOT_IN_FINGERPRINT)
    """Larger files fail before they are read."""
    allow_schemes: tuple[str, ...] = Field(
        default=OBJECT_STORES, json_schema_extra=NOT_IN_FINGERPRINT
    )
    """Object stores that a table may name, by fsspec's schemes; the input's own is always read."""
    allow_local_files: bool = Field(default=False, json_schema_extra=NOT_IN_FINGERPRINT)
    """Whether a table may name files outside the input's folder."""
    allow_http: bool = Field(default=False, json_schema_extra=NOT_IN_FINGERPRINT)
    """Whether a table may name http and https URLs."""
    allow_private_hosts: bool | tuple[str, ...] = Field(
        default=False, json_schema_extra=NOT_IN_FINGERPRINT
    )
    """Hosts that may have a private, loopback or link-local address; true for all of them."""
    timeout_s: float = Field(default=60.0, gt=0, le=3600, json_schema_extra=NOT_IN_FINGERPRINT)
    """How long one download from the web may take, in seconds."""
    attempts: int = Field(default=3, ge=1, le=20, json_schema_extra=NOT_IN_FINGERPRINT)
    """How often a download is tried whose trouble may pass."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """Where the source lies, and its mask where that is read."""
        return (c.SOURCE_URI, c.BASE_URI, *((c.INPUT_MASK_URI,) if self.read_mask else ()))

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The bytes, their hash, the upright size, and the mask where it is read."""
        found = (c.SOURCE_IMAGE, c.SOURCE_SHA256, c.WIDTH_PX, c.HEIGHT_PX)
        return (*found, *((c.MASK_IMAGE, c.MASK_SOURCE) if self.read_mask else ()))

    @property
    def access(self) -> Access:
        """What a table's URIs may name."""
        web = DownloadLimits(
            self.max_bytes, self.timeout_s, self.attempts, self.allow_private_hosts
        )
        return Access(
            schemes=self.allow_schemes,
            web=web if self.allow_http else None,
            local_files=self.allow_local_files,
            max_bytes=self.max_bytes,
        )

    def load(self) -> Reader:
        """Opens nothing yet."""
        return Reader(self.access)

    def run(self, rows: Sequence[Row], model: Reader) -> list[Answer]:
        """Reads and decodes each source."""
        base_uri: str = rows[0][c.BASE_URI.name] or ""
        uris = [row[c.SOURCE_URI.name] for row in rows]
        masks = [row[c.INPUT_MASK_URI.name] if self.read_mask else None for row in rows]
        found = model.read(base_uri, [*uris, *(uri for uri in masks if uri)])
        sources, mask_data = found[: len(uris)], iter(found[len(uris) :])
        return [
            row_error_as_answer(self._fetched, source, next(mask_data) if mask else None)
            for source, mask in zip(sources, masks, strict=True)
        ]

    def _fetched(self, source: bytes | RowError, mask: bytes | RowError | None) -> NewColumns:
        data = _bytes(source)
        picture = decode(data, self.max_pixels)
        found = {
            c.SOURCE_IMAGE.name: data,
            c.SOURCE_SHA256.name: sha256(data),
            c.WIDTH_PX.name: picture.width_px,
            c.HEIGHT_PX.name: picture.height_px,
        }
        return {**found, **_mask_columns(mask, picture)} if self.read_mask else found


def _mask_columns(found: bytes | RowError | None, source: Picture) -> NewColumns:
    if found is None:
        return {c.MASK_IMAGE.name: None, c.MASK_SOURCE.name: None}
    if isinstance(found, RowError):
        raise RowError(found.code.replace("source_", "mask_"), f"the mask: {found.message}")
    mask = decode_mask(found, source.width_px, source.height_px)
    white = np.where(mask >= 128, np.uint8(255), np.uint8(0))
    return {c.MASK_IMAGE.name: encode_mask(white), c.MASK_SOURCE.name: GIVEN}


def _bytes(found: bytes | RowError) -> bytes:
    if isinstance(found, RowError):
        raise found
    return found
