"""Fetch: reads each source and decodes it once, so that a broken or forbidden one fails here.

The pictures that steer an edit (a mask, a sketch, references) are read with the source, under the
same permissions and limits; see `pipeline.conditions`.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from overpaint.operators.framing.masks import binarise
from overpaint.operators.sources.access import MAX_BYTES, OBJECT_STORES, Access, Reader
from overpaint.operators.sources.web import DownloadLimits
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.conditions import MASK, PICTURES, Condition
from overpaint.pipeline.errors import RowError, near_miss
from overpaint.pipeline.identity import sha256
from overpaint.pipeline.images import (
    MAX_PIXELS,
    Picture,
    decode,
    decode_mask,
    decode_weights,
    encode_mask,
)
from overpaint.pipeline.operator import (
    NOT_IN_FINGERPRINT,
    Answer,
    Calls,
    Kind,
    NewColumns,
    Operator,
    row_error_as_answer,
)
from pydantic import Field, field_validator

GIVEN = "given"
"""The `mask_source` of a mask that came with the table."""

_PACKED_REASONS = {"source_null": "missing", "source_ambiguous": "unreadable"}
"""Reasons why a condition that is packed with others cannot be read, by the codes of sources."""

Files = Mapping[str, bytes | RowError]
"""Files by URI, or why a file cannot be read."""


class Fetch(Operator[Reader]):
    """Reads each source, and the pictures that the table names beside it."""

    kind: ClassVar[Kind] = "fetch"
    renamed: ClassVar[Mapping[str, str]] = {"read_mask": "conditions"}

    batch_size: int = Field(default=8, ge=1, le=4096, json_schema_extra=NOT_IN_FINGERPRINT)
    """Sources that are read at once."""
    conditions: tuple[str, ...] = ()
    """Pictures that the table names beside each source, such as `mask` or `sketch`."""
    optional_conditions: tuple[str, ...] = ()
    """Pictures that are read where the table has their column."""
    require_mask: bool = Field(default=True, json_schema_extra=NOT_IN_FINGERPRINT)
    """Whether a row without a mask fails where `conditions` has `mask`: its edit would change the
    whole picture."""
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
    """Limit of one download from the web, in seconds."""
    attempts: int = Field(default=3, ge=1, le=20, json_schema_extra=NOT_IN_FINGERPRINT)
    """How often a download is tried whose error is transient."""

    @field_validator("conditions", "optional_conditions")
    @classmethod
    def _check_conditions(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in PICTURES:
                raise ValueError(f"no picture is named {name!r}: {near_miss(name, PICTURES)}")
        return tuple(sorted(set(names)))

    @property
    def inputs(self) -> tuple[Column, ...]:
        """URIs of the source and of its conditions."""
        return (c.SOURCE_URI, c.BASE_URI, *(PICTURES[name].input for name in self.conditions))

    @property
    def optional(self) -> tuple[Column, ...]:
        """URIs of conditions that a table may lack, and the places of members of tars."""
        names = (name for name in self.optional_conditions if name not in self.conditions)
        return (*(PICTURES[name].input for name in names), c.TAR_SPANS)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The bytes, their hashes, the upright size of the source, and where a mask is from."""
        conditions = [column for condition in self._pictures for column in condition.outputs]
        mask_source = (c.MASK_SOURCE,) if MASK in self._pictures else ()
        return (
            *(c.SOURCE_IMAGE, c.SOURCE_SHA256, c.WIDTH_PX, c.HEIGHT_PX),
            *conditions,
            *mask_source,
        )

    @property
    def access(self) -> Access:
        """Permissions of a table's URIs."""
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
        """Reads and decodes each source and its conditions."""
        return self.run_by(rows, model, Calls())

    def run_by(self, rows: Sequence[Row], model: Reader, calls: Calls) -> list[Answer]:
        """Reads and decodes beside the models."""
        uris = [uri for row in rows for uri in (row["source_uri"], *self._condition_uris(row))]
        spans = {
            span["uri"]: (span["offset"], span["size"])
            for row in rows
            for span in row.get(c.TAR_SPANS.name) or ()
        }
        files = model.read(rows[0]["base_uri"] or "", uris, spans)

        def fetched(row: Row) -> Answer:
            return row_error_as_answer(self._fetched, row, files)

        return calls.beside(fetched, rows)

    @property
    def _pictures(self) -> tuple[Condition, ...]:
        names = {*self.conditions, *self.optional_conditions}
        return tuple(PICTURES[name] for name in sorted(names))

    def _condition_uris(self, row: Row) -> list[str]:
        return [uri for condition in self._pictures for uri in _uris(condition, row)]

    def _fetched(self, row: Row, files: Files) -> NewColumns:
        data = _bytes(files, row["source_uri"])
        picture = decode(data, self.max_pixels)
        columns = {
            "source_image": data,
            "source_sha256": sha256(data),
            "width_px": picture.width_px,
            "height_px": picture.height_px,
        }
        for condition in self._pictures:
            try:
                columns |= self._condition(condition, row, files, picture)
            except RowError as error:
                raise _of_condition(condition, error) from error
        return columns

    def _condition(
        self, condition: Condition, row: Row, files: Files, source: Picture
    ) -> NewColumns:
        images = [_bytes(files, uri) for uri in _uris(condition, row)]
        if condition is MASK:
            return self._mask(images[0] if images else None, source)
        read = decode_weights if condition.form == "weights" else decode
        for data in images:
            read(data, self.max_pixels)
        return _picture_columns(condition, images)

    def _mask(self, data: bytes | None, source: Picture) -> NewColumns:
        if data is not None:
            mask = decode_mask(
                data,
                source.width_px,
                source.height_px,
                is_turned=source.is_turned,
                max_pixels=self.max_pixels,
            )
            return {"mask_image": encode_mask(binarise(mask)), "mask_source": GIVEN}
        if self.require_mask and MASK.name in self.conditions:
            raise RowError("mask_missing", "the row has none, and fetch requires one")
        return {"mask_image": None, "mask_source": None}


def _picture_columns(condition: Condition, images: Sequence[bytes]) -> NewColumns:
    """Returns the columns of a condition: lists of values where it may be several pictures."""
    values = (list(images), [sha256(data) for data in images])
    columns = dict(zip((column.name for column in condition.outputs), values, strict=True))
    if not images:
        return dict.fromkeys(columns)
    if condition.form == "pictures":
        return columns
    return {name: value[0] for name, value in columns.items()}


def _uris(condition: Condition, row: Row) -> list[str]:
    """Returns the URIs of a row's condition; a null or empty one is none."""
    value = row[condition.input.name]
    return [uri for uri in (value if condition.form == "pictures" else [value]) or () if uri]


def _bytes(files: Files, uri: str) -> bytes:
    data = files[uri]
    if isinstance(data, RowError):
        raise data
    return data


def _of_condition(condition: Condition, error: RowError) -> RowError:
    """Returns an error about a source or an image as one about a condition."""
    reason = _PACKED_REASONS.get(error.code, error.code.split("_", 1)[1])
    reason = "unreadable" if reason in ("empty", "truncated", "range") else reason
    return RowError(f"{condition.name}_{reason}", f"{condition.table_name}: {error.message}")
