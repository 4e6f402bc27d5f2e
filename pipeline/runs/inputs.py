"""Input of a run: a folder of images, a table with `source_uri`, pictures in files, or another run.

Rows are read batch by batch: memory does not grow with their number, but for lists of files and for
a table that is one file of lines.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.image_formats import IMAGE_SUFFIXES
from overpaint.pipeline.runs.bases import find_base
from overpaint.pipeline.runs.folder import RECIPE
from overpaint.pipeline.runs.listings import Listing, list_files
from overpaint.pipeline.runs.picture_columns import PictureColumns, is_text
from overpaint.pipeline.runs.run_input import run_part
from overpaint.pipeline.runs.survey import Survey, survey_sources
from overpaint.pipeline.runs.table_files import (
    ROWS_FILE,
    TableFiles,
    listed_parts,
    one_file,
    saved_dataset,
)
from overpaint.pipeline.storage.store import Storage, is_file, is_folder
from overpaint.pipeline.storage.uris import join, normalise
from overpaint.pipeline.tables.parts import TablePart, TableStream, joined, part_of_table
from overpaint.pipeline.tables.tables import (
    TABLE_SUFFIXES,
    OpenedTable,
    is_table,
    open_table,
    tables_sha256,
    tables_version,
)

SOURCE = "source_uri"


@dataclass(frozen=True)
class Input:
    """Rows to plan.

    Attributes:
        stream: `source_uri` and the other columns of the input, batch by batch.
        base_uri: folder or prefix that relative URIs are relative to.
        notes: sentences on what was read and what was left out, for the user.
        is_sharded: whether the rows are those of several files in a folder.
    """

    stream: TableStream
    base_uri: str
    notes: tuple[str, ...] = ()
    is_sharded: bool = False

    @classmethod
    def of(cls, table: pa.Table, base_uri: str) -> "Input":
        """Returns a table in memory as an input."""
        return cls(joined([part_of_table("rows", table)]), base_uri)

    @property
    def schema(self) -> pa.Schema:
        """The columns of the input."""
        return self.stream.schema

    @property
    def table(self) -> pa.Table:
        """All rows in memory: for inputs that are known to be small."""
        return self.stream.table()

    @cached_property
    def survey(self) -> Survey:
        """Summary of the sources, from one pass over them.

        Raises:
            UsageError: there are no rows, a source is null, or one is not text.
        """
        return survey_sources(self.stream, SOURCE, self.base_uri)


@dataclass(frozen=True, slots=True)
class InputRequest:
    """Input of a run as a user asks for it.

    Attributes:
        uri: folder or prefix of images or of a table's parts, table with `source_uri`, table or tar
            of pictures, or folder of another run.
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
        """Returns the hash of the table's files; None for other inputs, on a store, and if huge."""
        files = self._files(is_sharded=is_sharded)
        return tables_sha256(files) if files and is_file(files[0]) else None

    def _files(self, *, is_sharded: bool) -> list[str]:
        uri = normalise(self.uri)
        if is_sharded:
            files = saved_dataset(uri) or listed_parts(uri, list_files(uri))
            return [join(uri, path) for path in files.paths] if files else []
        return [uri if is_table(uri) else join(uri, ROWS_FILE)]

    def read(self, with_bytes: Collection[str] = ()) -> Input:
        """Opens the input, and reads its sources once.

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
    """Opens the input of a run.

    Args:
        uri: a Parquet, JSONL or CSV table with `source_uri`; a Parquet or Arrow file, or a tar,
            with the pictures themselves; a folder with parts of one of these, with a dataset that
            `save_to_disk` has written, or with `rows.jsonl`; another run's folder, whose accepted
            images become the sources; or a folder of images.
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
    return is_folder(uri) and not storage.exists(ROWS_FILE) and not storage.exists(RECIPE)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of an input as they are there.

    Attributes:
        parts: rows, under the names of the plan.
        folder: folder or prefix of the input.
        notes: see `Input`.
        may_lack: whether a part may lack columns that others have.
        is_table: whether sources are what a table says, and not what lies in the folder.
        is_sharded: see `Input`.
    """

    parts: tuple[TablePart, ...]
    folder: str
    notes: tuple[str, ...] = ()
    may_lack: bool = False
    is_table: bool = False
    is_sharded: bool = False


def _read_input(request: InputRequest, with_bytes: Collection[str]) -> Input:
    if request.limit is not None and request.limit < 1:
        raise UsageError(
            f"--limit {request.limit}: take at least one row; without it all are taken"
        )
    uri = normalise(request.uri)
    try:
        rows = _rows(uri, request, with_bytes)
        stream = _stream(rows, request.limit, uri)
        survey = survey_sources(stream, SOURCE, uri)
    except PermissionError as error:
        raise UsageError(f"{uri}: the input may not be read: {error}") from error
    base_uri, notes = rows.folder, rows.notes
    given = normalise(request.base_uri) if request.base_uri else None
    if rows.is_table or given:
        base = find_base(survey.sample, rows.folder, given)
        base_uri, notes = base.uri, (*notes, *([str(base)] if base.looked_at else []))
    found = Input(stream, base_uri, notes, rows.is_sharded)
    found.__dict__["survey"] = survey
    return found


def _stream(rows: _Rows, limit: int | None, uri: str) -> TableStream:
    try:
        stream = joined(rows.parts, may_lack=rows.may_lack)
    except UsageError as error:
        raise UsageError(f"{uri}: cannot be read as a table: {error}") from error
    place = stream.schema.get_field_index(SOURCE)
    if not is_text(kind := stream.schema.field(place).type):
        raise UsageError(f"{uri}: {SOURCE} is {kind}; it must be text")
    schema = stream.schema.set(place, pa.field(SOURCE, pa.string()))
    return replace(stream, schema=schema, limit=limit)


def _rows(uri: str, request: InputRequest, with_bytes: Collection[str]) -> _Rows:
    if is_table(uri) and is_file(uri):
        folder, _, name = uri.rpartition("/")
        return _read_tables(one_file(folder or "/", name), request, with_bytes)
    if is_file(uri):
        raise UsageError(f"{uri}: not a table; known endings: {', '.join(TABLE_SUFFIXES)}")
    if not is_folder(uri):
        raise UsageError(f"{uri}: no such input; give a folder of images or a table")
    storage = Storage(uri)
    if storage.exists(ROWS_FILE):
        return _read_tables(one_file(uri, ROWS_FILE), request, with_bytes)
    if storage.exists(RECIPE):
        return _Rows((run_part(storage, request.mapping),), uri)
    files = saved_dataset(uri)
    listing = Listing() if files else list_files(uri)
    if files := files or listed_parts(uri, listing):
        return replace(_read_tables(files, request, with_bytes), is_sharded=True)
    table = part_of_table("", _image_table(listing, uri))
    return _Rows((table,), uri, tuple(_listing_notes(listing, uri)))


def _read_tables(files: TableFiles, request: InputRequest, with_bytes: Collection[str]) -> _Rows:
    given = {new: name for name, new in request.mapping.items()}
    source = given.get(SOURCE, SOURCE)
    opened = open_table(files.folder, files.paths, source=source, limit=request.limit)
    where = files.folder if len(files.paths) > 1 else join(files.folder, *files.paths)
    columns = PictureColumns.of(
        opened.files, files.columns, request.mapping, with_bytes, request.keep, where
    )
    parts = tuple(
        columns.part(file).with_constants(values).renamed(columns.renamed)
        for file, values in zip(opened.files, files.constants, strict=False)
    )
    notes = (*files.notes, *columns.notes, *_tar_notes(opened))
    return _Rows(parts, files.folder, notes, opened.may_lack, is_table=True)


def _tar_notes(opened: OpenedTable) -> Iterator[str]:
    if opened.left_out:
        counts = ", ".join(f"{n} {ending}" for ending, n in opened.left_out.most_common())
        yield f"members of tars that are left out: {counts}"
    if opened.without_picture:
        yield f"samples of tars without a picture, which are left out: {opened.without_picture}"


def _image_table(listing: Listing, uri: str) -> pa.Table:
    if not listing.images:
        words = listing.left_out()
        reason = f"left out: {words}" if words else f"known endings: {', '.join(IMAGE_SUFFIXES)}"
        raise UsageError(f"{uri}: no images there; {reason}")
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
