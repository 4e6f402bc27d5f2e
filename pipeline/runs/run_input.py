"""Rows of another run as an input: its accepted edits are the sources of the next turn.

A chain of turns is told by columns that no edit reads: `parent_key`, the key of the row that made
the source; `turn`, 2 for sources that a first run has made; and `chain_key`, the key of the chain's
first row. Whose the pictures are is carried on, and other columns are where they are asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from overpaint.pipeline import columns as c
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.rights import tells_rights
from overpaint.pipeline.runs.folder import RunFolder, part_path
from overpaint.pipeline.storage.parquet import read_schema
from overpaint.pipeline.storage.store import Storage, open_uri
from overpaint.pipeline.tables.parts import TablePart

_SOURCE, _PARENT, _TURN, _CHAIN = "source_uri", "parent_key", "turn", "chain_key"
_SPANS = c.TAR_SPANS.name.removeprefix("in_")
_OWN = {_SOURCE: pa.string(), _PARENT: pa.string(), _TURN: pa.int64(), _CHAIN: pa.string()}


def run_part(storage: Storage, mapping: Mapping[str, str]) -> TablePart:
    """Returns the accepted rows of a finished run: its edited images are the new sources.

    Args:
        storage: storage of the run folder.
        mapping: new names of columns of its manifest that are taken beside, by their names there.

    Raises:
        UsageError: the run is not finished, has no such column, or a new name is taken.
    """
    folder = RunFolder(storage)
    if not folder.is_finished():
        raise UsageError(f"{storage.uri}: that run is not finished; run its command again first")
    schema = _manifest_schema(folder)
    packed = {_SPANS: c.TAR_SPANS.type} if c.STORED_SPANS.name in schema.names else {}
    taken = _taken(schema, mapping, storage.uri)

    def read(wanted: Sequence[str]) -> Iterator[pa.Table]:
        known = set(schema.names)
        needed = {
            "key",
            "edited_uri",
            c.STORED_SPANS.name,
            *taken.values(),
            f"in_{_TURN}",
            f"in_{_CHAIN}",
        }
        for _, table in folder.tables(sorted(needed & known), {"status": "accepted"}):
            columns: Any = {name: _column(table, name, taken) for name in wanted}
            yield pa.table(columns)

    fields = {**_OWN, **packed, **{new: schema.field(name).type for new, name in taken.items()}}
    return TablePart(storage.uri, pa.schema(list(fields.items())), read)


def _manifest_schema(folder: RunFolder) -> pa.Schema:
    parts = folder.parts("manifest")
    if not parts:
        return pa.schema([])
    with open_uri(folder.storage.at(part_path("manifest", parts[0]))) as file:
        return read_schema(file)


def _taken(schema: pa.Schema, mapping: Mapping[str, str], uri: str) -> dict[str, str]:
    """Returns the columns of a manifest that are taken, by their new names."""
    taken = {name.removeprefix("in_"): name for name in schema.names if tells_rights(name)}
    for name, new in mapping.items():
        if name not in schema.names:
            hint = near_miss(name, schema.names)
            raise UsageError(f"--map {name}={new}: {uri} has no such column: {hint}")
        if new in (*_OWN, _SPANS):
            raise UsageError(f"--map {name}={new}: {new!r} is that of the edited image of a run")
        taken[new] = name
    return {new: name for new, name in taken.items() if new not in _OWN}


def _column(table: pa.Table, name: str, taken: Mapping[str, str]) -> Any:
    if name in taken:
        return table[taken[name]]
    if name == _SOURCE:
        return table["edited_uri"]
    if name == _SPANS:
        return table[c.STORED_SPANS.name]
    if name == _TURN:
        before = _given(table, f"in_{_TURN}", pa.scalar(1, pa.int64()))
        return pc.add(before, 1)
    if name == _CHAIN:
        return pc.coalesce(_given(table, f"in_{_CHAIN}", None), table["key"])
    return table["key"]


def _given(table: pa.Table, name: str, default: Any) -> Any:
    """Returns a column of the parent's input, with a default where it has none."""
    if name not in table.column_names:
        kind = _OWN[name.removeprefix("in_")]
        value: Any = pa.scalar(None, kind) if default is None else default
        return pa.chunked_array([pa.repeat(value, table.num_rows)])
    column = table[name].cast(_OWN[name.removeprefix("in_")])
    return column if default is None else column.fill_null(default)
