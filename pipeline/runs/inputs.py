"""Input of a run: a folder of images, a table with `source_uri`, or another run."""

from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.image_formats import IMAGE_SUFFIXES
from overpaint.pipeline.runs.bases import find_base, sampled_sources
from overpaint.pipeline.runs.folder import RECIPE, RunFolder
from overpaint.pipeline.runs.listings import Listing, list_files
from overpaint.pipeline.storage.store import Storage, is_file, is_folder
from overpaint.pipeline.storage.uris import join, normalise
from overpaint.pipeline.tables.tables import (
    SHARD_SUFFIX,
    TABLE_SUFFIXES,
    is_table,
    read_table,
    tables_sha256,
    tables_version,
)

_ROWS_FILE = "rows.jsonl"
SOURCE = "source_uri"


@dataclass(frozen=True, slots=True)
class Input:
    """Rows to plan.

    Attributes:
        table: `source_uri` and the other columns of the input.
        base_uri: folder or prefix that relative URIs are relative to.
        notes: sentences on what was read and what was left out, for the user.
        lines: line of the table's file in which each row begins, from 1; None for no such file.
        is_sharded: whether the rows are those of several files in a folder.
    """

    table: pa.Table
    base_uri: str
    notes: tuple[str, ...] = ()
    lines: "array[int] | None" = None
    is_sharded: bool = False

    def place(self, row: int) -> str:
        """Returns the place of a row, counted from 0, as users find it: its line, or its number."""
        return f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}"


@dataclass(frozen=True, slots=True)
class InputRequest:
    """Input of a run as a user asks for it.

    Attributes:
        uri: folder or prefix of images, table with `source_uri`, or folder of another run.
        limit: rows to take from the front; None for all.
        mapping: new names of columns, by their names in the table.
        base_uri: URI that relative sources are relative to; None lets the input decide.
        keep: names of columns of bytes that are carried along.
    """

    uri: str
    limit: int | None = None
    mapping: Mapping[str, str] = field(default_factory=dict[str, str])
    base_uri: str | None = None
    keep: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Returns the request as JSON values, as a run's record and identity hold it."""
        return {
            "input": normalise(self.uri) if self.uri else "",
            "limit": self.limit,
            "mapping": dict(self.mapping),
            "base": normalise(self.base_uri) if self.base_uri else None,
            # Runs that keep no bytes have the identity that they had before there was a choice.
            **({"keep": sorted(self.keep)} if self.keep else {}),
        }

    def version(self, *, is_sharded: bool = False) -> str | None:
        """Returns a word that changes with the content of the table; None for other inputs.

        Args:
            is_sharded: whether the table is in several files of a folder.
        """
        return tables_version(self._files(is_sharded=is_sharded))

    def sha256(self, *, is_sharded: bool = False) -> str | None:
        """Returns the hash of the table's files; None for other inputs and on a store."""
        files = self._files(is_sharded=is_sharded)
        return tables_sha256(files) if files and is_file(files[0]) else None

    def _files(self, *, is_sharded: bool) -> list[str]:
        uri = normalise(self.uri)
        if is_sharded:
            return _shards(uri, list_files(uri))
        return [uri if is_table(uri) else join(uri, _ROWS_FILE)]

    def read(self, with_bytes: Collection[str] = ()) -> Input:
        """Reads the rows.

        Args:
            with_bytes: columns that are read also if they hold bytes, by their new names.

        Raises:
            UsageError: the input is missing, or has no rows or no `source_uri`.
        """
        return _read_input(self, with_bytes)


def read_input(
    uri: str,
    *,
    limit: int | None = None,
    mapping: Mapping[str, str] | None = None,
    base_uri: str | None = None,
    keep: Sequence[str] = (),
) -> Input:
    """Reads the input of a run.

    Args:
        uri: a Parquet, JSONL or CSV table with `source_uri`; a folder with `rows.jsonl`, or with
            Parquet files and no images; another run's folder, whose accepted images become the
            sources; or a folder of images.
        limit: rows to take from the front; None for all.
        mapping: new names of columns, by their names in the table.
        base_uri: folder or prefix that relative sources are relative to; None for the table's
            folder, or the `images` folder in it where more of the sources lie there.
        keep: names of columns of bytes that are carried along.

    Raises:
        UsageError: there is no input, or it has no rows or no `source_uri`.

    Example:
        >>> read_input("photos/rows.csv", mapping={"file_name": "source_uri"}).table.num_rows
        48
    """
    return InputRequest(uri, limit, mapping or {}, base_uri, tuple(keep)).read()


def is_image_folder(uri: str) -> bool:
    """Tells whether an input is a folder whose images are listed: not a table, and not a run."""
    storage = Storage(uri)
    return is_folder(uri) and not storage.exists(_ROWS_FILE) and not storage.exists(RECIPE)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of an input as they are there.

    Attributes:
        table: rows, under the names of the input.
        folder: folder or prefix of the input.
        notes: see `Input`.
        lines: see `Input`.
        left_out: types of the columns of bytes that were not read, by name.
        is_table: whether sources are what a table says, and not what lies in the folder.
        is_sharded: see `Input`.
    """

    table: pa.Table
    folder: str
    notes: tuple[str, ...] = ()
    lines: "array[int] | None" = None
    left_out: Mapping[str, pa.DataType] = field(default_factory=dict[str, pa.DataType])
    is_table: bool = False
    is_sharded: bool = False


def _read_input(request: InputRequest, with_bytes: Collection[str]) -> Input:
    if request.limit is not None and request.limit < 1:
        raise UsageError(
            f"--limit {request.limit}: take at least one row; without it all are taken"
        )
    uri = normalise(request.uri)
    try:
        rows = _rows(uri, request, {SOURCE, *with_bytes})
    except PermissionError as error:
        raise UsageError(f"{uri}: the input may not be read: {error}") from error
    table = _with_sources(rows, request, uri)
    if request.limit is not None:
        table = table.slice(0, request.limit)
    if table.num_rows == 0:
        raise UsageError(f"{uri}: the input has no rows")
    base_uri, notes = rows.folder, rows.notes
    given = normalise(request.base_uri) if request.base_uri else None
    if rows.is_table or given:
        base = find_base(sampled_sources(table[SOURCE]), rows.folder, given)
        base_uri, notes = base.uri, (*notes, *([str(base)] if base.looked_at else []))
    return Input(table, base_uri, notes, rows.lines, rows.is_sharded)


def _rows(uri: str, request: InputRequest, wanted: Collection[str]) -> _Rows:
    if is_table(uri) and is_file(uri):
        return _read_tables([uri], uri.rsplit("/", 1)[0] or "/", request, wanted)
    if is_file(uri):
        raise UsageError(f"{uri}: not a table; known endings: {', '.join(TABLE_SUFFIXES)}")
    if not is_folder(uri):
        raise UsageError(f"{uri}: no such input; give a folder of images or a table")
    storage = Storage(uri)
    if storage.exists(_ROWS_FILE):
        return _read_tables([storage.at(_ROWS_FILE)], uri, request, wanted)
    if storage.exists(RECIPE):
        return _Rows(_read_run(storage), uri)
    listing = list_files(uri)
    if shards := _shards(uri, listing):
        return replace(_read_tables(shards, uri, request, wanted), is_sharded=True)
    return _Rows(_image_table(listing, uri), uri, tuple(_listing_notes(listing, uri)))


def _shards(uri: str, listing: Listing) -> list[str]:
    """Returns the files of a table in a folder, if it has Parquet files and no images."""
    if listing.images:
        return []
    return [join(uri, path) for path in listing.tables if path.lower().endswith(SHARD_SUFFIX)]


def _read_tables(
    uris: Sequence[str], folder: str, request: InputRequest, wanted: Collection[str]
) -> _Rows:
    given = {new: name for name, new in request.mapping.items()}
    read = read_table(
        uris,
        source=given.get(SOURCE, SOURCE),
        with_bytes={given.get(name, name) for name in wanted} | set(request.keep),
    )
    notes = [
        f"column {name!r} holds bytes and is left out; --keep {name} carries it along"
        for name in read.left_out
    ]
    return _Rows(read.table, folder, tuple(notes), read.lines, read.left_out, is_table=True)


def _read_run(storage: Storage) -> pa.Table:
    """Reads the accepted rows of a finished run: its edited images are the new sources."""
    folder = RunFolder(storage)
    if not folder.is_finished():
        raise UsageError(f"{storage.uri}: that run is not finished; run its command again first")
    tables = folder.tables(["key", "edited_uri"], {"status": "accepted"})
    table = pa.concat_tables(table for _, table in tables)
    return table.rename_columns(["parent_key", SOURCE])


def _image_table(listing: Listing, uri: str) -> pa.Table:
    if not listing.images:
        words = listing.left_out()
        reason = f"left out: {words}" if words else f"known endings: {', '.join(IMAGE_SUFFIXES)}"
        table = f"; --input {join(uri, listing.tables[0])} is a table" if listing.tables else ""
        raise UsageError(f"{uri}: no images there; {reason}{table}")
    return pa.table({SOURCE: pa.array(listing.images, pa.string())})


def _listing_notes(listing: Listing, uri: str) -> list[str]:
    notes = list[str]()
    if words := listing.left_out():
        noun = "image" if len(listing.images) == 1 else "images"
        notes.append(f"{len(listing.images)} {noun}; left out: {words}")
    if listing.metadata:
        notes.append(
            f"{listing.metadata} is not read: --input {join(uri, listing.metadata)} "
            "--map file_name=source_uri takes its rows, and more --map NAME=NEW its texts"
        )
    if listing.num_captions:
        notes.append(
            f"texts beside images of the same name ({listing.num_captions} .txt) are not read: a "
            "table with source_uri and source_prompt gives them"
        )
    return notes


def _with_sources(rows: _Rows, request: InputRequest, uri: str) -> pa.Table:
    """Returns the table under its new names, with sources that are text in every row."""
    names = [*rows.table.column_names, *rows.left_out]
    for option, given in (("--map", list(request.mapping)), ("--keep", request.keep)):
        for name in given:
            if name not in names:
                hint = near_miss(name, names)
                raise UsageError(f"{uri}: {option} {name}: no such column: {hint}")
    table = _renamed(rows.table, request.mapping, uri)
    if SOURCE not in table.column_names:
        raise UsageError(f"{uri}: no column {SOURCE}: {_source_hint(table, rows.left_out)}")
    sources = table[SOURCE]
    if sources.null_count and sources.null_count < len(sources):
        first = Input(table, uri, lines=rows.lines).place(_first_null(sources))
        raise UsageError(f"{uri}: {SOURCE} is null in {sources.null_count} rows, first in {first}")
    index = table.column_names.index(SOURCE)
    return table.set_column(index, SOURCE, _texts(sources, uri))


def _texts(sources: Any, uri: str) -> Any:
    kind = sources.type.value_type if pa.types.is_dictionary(sources.type) else sources.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not is_text and not pa.types.is_binary(kind) and not pa.types.is_large_binary(kind):
        raise UsageError(f"{uri}: {SOURCE} is {sources.type}; it must be text")
    try:
        return sources.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise UsageError(f"{uri}: {SOURCE} holds bytes that are not UTF-8 text") from error


def _first_null(values: Any) -> int:
    return pc.index(values.is_null(), value=True).as_py()


def _source_hint(table: pa.Table, left_out: Mapping[str, pa.DataType]) -> str:
    for name, kind in left_out.items():
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return (
                f"column {name!r} holds the pictures themselves: write each to a file, such as by "
                f"row[{name!r}].save(path) of `datasets`, and the paths to a column {SOURCE}"
            )
    hint = near_miss(SOURCE, [*table.column_names, *left_out])
    return f"{hint}; --map NAME={SOURCE} renames one"


def _renamed(table: pa.Table, mapping: Mapping[str, str], uri: str) -> pa.Table:
    names = [mapping.get(name, name) for name in table.column_names]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{uri}: two columns are named {name!r}: --map NAME=OTHER renames one")
    return table.rename_columns(names)
