"""Table of the sources of a run of hashes: which of them are near-duplicates, and of which.

Memory holds a few numbers for each source, and the addresses of those that have near-duplicates.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from overpaint.jobs.dedupe.kept import Kept, choose_kept
from overpaint.operators.dedupe import BITS, DEDUPE_SCHEMA, HASH, OF, SOURCE
from overpaint.pipeline import columns as c
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.storage.store import Storage

Keep = Literal["first", "largest"]
"""Source that is kept of several: the first of the run, or the first of those with most pixels."""
MOST_BITS = 8
_READ = (SOURCE, HASH, c.WIDTH_PX.name, c.HEIGHT_PX.name)
_Numbers = np.ndarray[Any, np.dtype[np.int64]]


class Deduped(NamedTuple):
    """Counts of a table of sources.

    Attributes:
        sources: sources of the run.
        refused: those that are near-duplicates of a kept one.
        unreadable: those without a hash, which are kept: what reads them says why.
    """

    sources: int
    refused: int
    unreadable: int


class _Hashed(NamedTuple):
    """Sources that have a hash.

    Attributes:
        places: their numbers among all sources.
        hashes: perceptual hashes.
        pixels: numbers of pixels.
    """

    places: _Numbers
    hashes: np.ndarray[Any, np.dtype[np.uint64]]
    pixels: _Numbers


def dedupe(folder: RunFolder, output: str, *, near_bits: int = 4, keep: Keep = "first") -> Deduped:
    """Writes the sources of a run as a table that says which of them to refuse.

    It has `source_uri`, `phash_source`, and for near-duplicates `near_duplicate_of`, the address of
    the source that is kept, and `near_bits`, the bits of 64 in which both hashes differ. Equal runs
    give equal bytes.

    Args:
        folder: finished run whose rows have `phash_source`, such as one of recipe `hashes`.
        output: URI of the Parquet file.
        near_bits: most bits in which near-duplicates differ, 0 to 8.
        keep: which source is kept of several.

    Raises:
        UsageError: the run is not finished, or has no hashes; the output is no Parquet file.
    """
    _check(folder, output, near_bits)
    num_sources, hashed = _read(folder)
    kept = choose_kept(hashed.hashes, _order(hashed, keep), near_bits)
    found = _Refused.of_kept(folder, hashed.places, kept)
    name = output.rsplit("/", 1)[-1]
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / name
        num_refused = _write(folder, found, file)
        Storage(output.rsplit("/", 1)[0] or "/").upload(name, file)
    return Deduped(num_sources, num_refused, num_sources - len(hashed.places))


def _check(folder: RunFolder, output: str, near_bits: int) -> None:
    uri = folder.storage.uri
    if not 0 <= near_bits <= MOST_BITS:
        raise UsageError(f"--near-bits {near_bits}: it must be 0 to {MOST_BITS}")
    if not output.endswith(".parquet"):
        raise UsageError(f"{output}: name a file that ends in .parquet")
    if not folder.is_finished():
        raise UsageError(f"{uri}: no finished run is there; `overpaint run hashes` makes one")
    names = folder.read_part("manifest", folder.parts("manifest")[0]).schema.names
    if HASH not in names:
        raise UsageError(
            f"{uri}: its rows have no {HASH}: {near_miss(HASH, names)}; "
            "`overpaint run hashes` gives sources theirs"
        )


def _sources(folder: RunFolder, columns: tuple[str, ...]) -> Iterator[pa.Table]:
    """Yields the first row of each source, in order: rows of one source stand together."""
    last = None
    for _, table in folder.tables(columns):
        uris = table[SOURCE].combine_chunks()
        before = pa.concat_arrays([pa.array([last], pa.string()), uris[:-1]])
        is_first = pc.equal(uris, before).fill_null(False).to_numpy(zero_copy_only=False) == 0
        yield table.filter(pa.array(is_first))
        last = uris[-1].as_py() if len(uris) else last


def _read(folder: RunFolder) -> tuple[int, _Hashed]:
    """Returns the number of sources, and those that have a hash."""
    count = 0
    parts = [_Hashed(np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.int64))]
    for table in _sources(folder, _READ):
        known = np.flatnonzero(table[HASH].is_valid().to_numpy(zero_copy_only=False))
        hashed = table.take(known)
        sides = [hashed[name].to_numpy().astype(np.int64) for name in _READ[2:]]
        hashes = hashed[HASH].to_numpy().astype(np.int64).view(np.uint64)
        parts.append(_Hashed(known + count, hashes, sides[0] * sides[1]))
        count += table.num_rows
    places, hashes, pixels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return count, _Hashed(places, hashes, pixels)


def _order(hashed: _Hashed, keep: Keep) -> _Numbers:
    if keep == "largest":
        return np.argsort(-hashed.pixels, kind="stable")
    return np.arange(len(hashed.places))


class _Refused(NamedTuple):
    """Refused sources.

    Attributes:
        places: their numbers among all sources, in order.
        of: number, in `keepers`, of the source that each is near to.
        bits: bits in which both hashes differ.
        keepers: addresses of the sources that they are near to.
    """

    places: _Numbers
    of: _Numbers
    bits: _Numbers
    keepers: Any

    @classmethod
    def of_kept(cls, folder: RunFolder, places: _Numbers, kept: Kept) -> "_Refused":
        """Returns the refused sources, with the addresses of those that are kept."""
        refused = np.flatnonzero(kept.by != np.arange(len(kept.by)))
        keepers, of = np.unique(places[kept.by[refused]], return_inverse=True)
        uris: list[Any] = [pa.array([], pa.string())]
        count = 0
        for table in _sources(folder, (SOURCE,)):
            own = keepers[np.searchsorted(keepers, count) :]
            own = own[: np.searchsorted(own, count + table.num_rows)] - count
            uris.append(table[SOURCE].combine_chunks().take(own))
            count += table.num_rows
        return cls(places[refused], of.reshape(-1), kept.bits[refused], pa.concat_arrays(uris))


def _write(folder: RunFolder, refused: _Refused, file: Path) -> int:
    """Writes the table part by part; returns the number of refused sources."""
    count = num_refused = 0
    with pq.ParquetWriter(file, DEDUPE_SCHEMA, compression="zstd") as writer:
        for table in _sources(folder, (SOURCE, HASH)):
            start, stop = np.searchsorted(refused.places, [count, count + table.num_rows])
            own = slice(int(start), int(stop))
            rows = _rows(table, refused, own, refused.places[own] - count)
            num_refused += rows.num_rows - rows[OF].null_count
            writer.write_table(rows)
            count += table.num_rows
    return num_refused


def _rows(table: pa.Table, refused: _Refused, own: slice, places: _Numbers) -> pa.Table:
    """Returns rows of the table; a source that the run has twice is no duplicate of itself."""
    of = np.full(table.num_rows, -1, np.int64)
    bits = np.zeros(table.num_rows, np.int64)
    of[places], bits[places] = refused.of[own], refused.bits[own]
    keepers = refused.keepers.take(pa.array(of, mask=of < 0))
    is_same = pc.equal(keepers, table[SOURCE].combine_chunks()).fill_null(True)
    columns: Any = {
        SOURCE: table[SOURCE],
        HASH: table[HASH],
        OF: pc.if_else(is_same, pa.nulls(len(of), pa.string()), keepers),
        BITS: pc.if_else(is_same, pa.nulls(len(of), pa.int32()), pa.array(bits, pa.int32())),
    }
    return pa.table(columns, schema=DEDUPE_SCHEMA)
