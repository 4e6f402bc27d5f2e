"""Passes over a run's manifest: every part once, a few of them read ahead, in bounded memory."""

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import pyarrow as pa
from overpaint.pipeline.runs.folder import RunFolder

_PARTS_AHEAD = 4
"""Parts read at once: enough to hide an object store's latency, few enough for memory."""


class PartVisitor(Protocol):
    """A reader of manifest parts that is shown every part, in order."""

    def columns(self, part: int, schema: pa.Schema) -> Collection[str]:
        """Names the columns of a part that the visitor reads, all of them in `schema`."""
        ...

    def add_part(self, part: int, table: pa.Table) -> None:
        """Takes a part of the manifest, with at least the named columns."""
        ...


def scan_manifest(folder: RunFolder, visitors: Sequence[PartVisitor]) -> pa.Schema:
    """Shows every part of the manifest to each visitor, in one pass.

    Args:
        folder: run folder, finished or not.
        visitors: readers of the parts.

    Returns:
        The columns of the manifest; none where no part is written.
    """
    parts = folder.parts("manifest")
    if not parts:
        return pa.schema([])
    first = folder.read_part("manifest", parts[0])

    def read(part: int) -> pa.Table:
        wanted = {name for visitor in visitors for name in visitor.columns(part, first.schema)}
        columns = [name for name in first.column_names if name in wanted]
        if part == parts[0]:
            return first.select(columns)
        return folder.read_part("manifest", part, columns)

    for part, table in zip(parts, _read_ahead(read, parts), strict=True):
        for visitor in visitors:
            visitor.add_part(part, table)
    return first.schema


def _read_ahead(read: Callable[[int], pa.Table], parts: Sequence[int]) -> Iterator[pa.Table]:
    with ThreadPoolExecutor(_PARTS_AHEAD) as pool:
        for start in range(0, len(parts), _PARTS_AHEAD):
            yield from pool.map(read, parts[start : start + _PARTS_AHEAD])
