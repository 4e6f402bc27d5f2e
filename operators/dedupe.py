"""`dedupe`: refuses sources that are near-duplicates of a kept one, before they are edited.

Near-duplicates are a matter of the whole data set, and a row is judged alone: so a table says it,
which `overpaint dedupe` writes once from the hashes of a run of recipe `hashes`. Placed before the
first model, a near-duplicate ends there, rejected with the address of the source that is kept.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.operator import (
    NOT_IN_FINGERPRINT,
    Answer,
    Kind,
    Operator,
    Rejected,
    row_error_as_answer,
)
from overpaint.pipeline.storage.parquet import open_parquet, read_schema
from overpaint.pipeline.storage.store import is_file, open_uri
from overpaint.pipeline.storage.uris import normalise
from overpaint.pipeline.tables.tables import tables_sha256, tables_version
from pydantic import Field, field_validator

SOURCE, HASH, OF, BITS = "source_uri", "phash_source", "near_duplicate_of", "near_bits"
DEDUPE_SCHEMA = pa.schema(
    [(SOURCE, pa.string()), (HASH, pa.int64()), (OF, pa.string()), (BITS, pa.int32())]
)
"""Columns of the table: those of a kept source are null but for the first two."""

NEAR_DUPLICATES = Column(
    "near_duplicates", pa.int32(), "sources of the data set that are refused for this one"
)


class Refusals(NamedTuple):
    """Table of sources in memory: eight bytes for each, and the addresses of those refused.

    Attributes:
        known: sorted hashes of all addresses.
        refused: sorted hashes of the addresses of refused sources.
        sources: those addresses, in that order.
        of: address of the source that is kept, for each.
        bits: bits in which both hashes differ, for each.
        keepers: sorted hashes of the addresses in `of`.
        counts: number of refused sources of each.
    """

    known: "_Numbers"
    refused: "_Numbers"
    sources: Any
    of: Any
    bits: Any
    keepers: "_Numbers"
    counts: "_Numbers"


class Dedupe(Operator[Refusals]):
    """Rejects sources that a table of near-duplicates refuses."""

    kind: ClassVar[Kind] = "score"

    table: str = Field(default="", json_schema_extra=NOT_IN_FINGERPRINT)
    """Parquet file that `overpaint dedupe` has written, a local path or any fsspec URL; it has to
    be given."""
    batch_size: int = Field(default=64, ge=1, le=4096, json_schema_extra=NOT_IN_FINGERPRINT)
    """Rows in one call."""

    @field_validator("table")
    @classmethod
    def _from_any_folder(cls, value: str) -> str:
        return normalise(value) if value else value

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The address of the source."""
        return (c.SOURCE_URI,)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The number of near-duplicates."""
        return (NEAR_DUPLICATES,)

    def check(self) -> None:
        """Checks that the table is there.

        Raises:
            ValueError: it is not, or is another table.
        """
        if not self.table:
            raise ValueError(
                "table names no file: give the one that `overpaint dedupe` has written"
            )
        try:
            with open_uri(self.table) as file:
                schema = read_schema(file)
        except (OSError, pa.ArrowInvalid) as error:
            raise ValueError(
                f"table = {self.table!r} cannot be read as Parquet ({type(error).__name__}): "
                "`overpaint dedupe` writes it"
            ) from error
        missing = [name for name in DEDUPE_SCHEMA.names if name not in schema.names]
        if missing:
            raise ValueError(
                f"table = {self.table!r} has no column {missing[0]!r}: `overpaint dedupe` writes it"
            )

    def revisions(self) -> dict[str, str]:
        """Returns a word for the content of the table."""
        if not self.table or not is_file(self.table):
            return {}
        return {"table": tables_sha256([self.table]) or tables_version([self.table]) or ""}

    def load(self) -> Refusals:
        """Reads the table, a row group at a time."""
        known: list[_Numbers] = [np.zeros(0, np.int64)]
        refused = [pa.table({name: pa.array([], DEDUPE_SCHEMA.field(name).type) for name in _TOLD})]
        with open_uri(self.table) as file:
            for batch in open_parquet(file).iter_batches(columns=list(_TOLD)):
                rows = pa.Table.from_batches([batch]).cast(refused[0].schema)
                known.append(_hashes(rows[SOURCE]))
                refused.append(rows.filter(rows[OF].is_valid()))
        return _sorted(np.concatenate(known), pa.concat_tables(refused))

    def run(self, rows: Sequence[Row], model: Refusals) -> list[Answer]:
        """Looks up each source."""
        return [row_error_as_answer(_looked_up, row, model) for row in rows]


_Numbers = np.ndarray[Any, np.dtype[np.int64]]
_TOLD = (SOURCE, OF, BITS)


def _sorted(known: _Numbers, refused: pa.Table) -> Refusals:
    hashes = _hashes(refused[SOURCE])
    order = np.argsort(hashes, kind="stable")
    rows = refused.take(order).combine_chunks()
    keepers, counts = np.unique(_hashes(refused[OF]), return_counts=True)
    sources, of, bits = (rows[name].combine_chunks() for name in _TOLD)
    return Refusals(np.unique(known), hashes[order], sources, of, bits, keepers, counts)


def _hashes(addresses: Any) -> _Numbers:
    """Returns a number for each of some addresses in Arrow, which holds in this process."""
    return np.array([hash(address) for address in addresses.to_pylist()], np.int64)


def _looked_up(row: Row, model: Refusals) -> dict[str, int] | Rejected:
    """Returns how many are refused for a source, or why it is refused itself.

    Raises:
        RowError: `dedupe_unknown`.
    """
    address = row[SOURCE]
    number = hash(address)
    for place in range(*_span(model.refused, number)):
        if model.sources[place].as_py() == address:
            return Rejected("near_duplicate", _reason(model, place))
    if _span(model.known, number)[0] == _span(model.known, number)[1]:
        raise RowError("dedupe_unknown", "the table of near-duplicates does not name the source")
    first, last = _span(model.keepers, number)
    return {NEAR_DUPLICATES.name: int(model.counts[first:last].sum())}


def _span(numbers: _Numbers, number: int) -> tuple[int, int]:
    """Returns the places of a number among sorted ones."""
    sides = (np.searchsorted(numbers, number, side=side) for side in ("left", "right"))
    first, last = map(int, sides)
    return first, last


def _reason(model: Refusals, place: int) -> str:
    bits = model.bits[place].as_py()
    same = "has its hash" if bits == 0 else f"differs from it in {bits} of 64 bits"
    return f"the source is a near-duplicate of {model.of[place].as_py()}, which is kept: it {same}"
