"""Input of a run: a folder of images, a table with `source_uri`, or another run."""

import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.runs.folder import RECIPE, RunFolder
from overpaint.pipeline.storage.parquet import read_parquet
from overpaint.pipeline.storage.store import (
    Storage,
    bare_path,
    file_version,
    filesystem,
    is_file,
    is_folder,
    read_uri,
)
from overpaint.pipeline.storage.uris import is_local, join, normalise

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
TABLE_SUFFIXES = (".parquet", ".jsonl", ".csv")
_ROWS_FILE = "rows.jsonl"


@dataclass(frozen=True, slots=True)
class Input:
    """Rows to plan.

    Attributes:
        table: `source_uri` and the other columns of the input.
        base_uri: folder or prefix that relative URIs are relative to.
    """

    table: pa.Table
    base_uri: str


@dataclass(frozen=True, slots=True)
class InputRequest:
    """Input of a run as a user asks for it.

    Attributes:
        uri: folder or prefix of images, table with `source_uri`, or folder of another run.
        limit: rows to take from the front; None for all.
        mapping: new names of columns, by their names in the table.
        base_uri: URI that relative sources are relative to; None lets the input decide.
    """

    uri: str
    limit: int | None = None
    mapping: Mapping[str, str] = field(default_factory=dict[str, str])
    base_uri: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Returns the request as JSON values, as a run's record and identity hold it."""
        return {
            "input": normalise(self.uri),
            "limit": self.limit,
            "mapping": dict(self.mapping),
            "base": normalise(self.base_uri) if self.base_uri else None,
        }

    def version(self) -> str | None:
        """Returns a word that changes with the content of the table; None for other inputs."""
        return input_version(normalise(self.uri))

    def read(self) -> Input:
        """Reads the rows.

        Raises:
            UsageError: the input is missing, or has no rows or no `source_uri`.
        """
        return read_input(self.uri, limit=self.limit, mapping=self.mapping, base_uri=self.base_uri)


def read_input(
    uri: str,
    *,
    limit: int | None = None,
    mapping: Mapping[str, str] | None = None,
    base_uri: str | None = None,
) -> Input:
    """Reads the input of a run.

    Args:
        uri: a Parquet, JSONL or CSV table with `source_uri`; a folder with `rows.jsonl`; another
            run's folder, whose accepted images become the sources; or a folder of images.
        limit: rows to take from the front; None for all.
        mapping: new names of columns, by their names in the table.
        base_uri: folder or prefix that relative sources are relative to; None for the table's
            folder, or the `images` folder in it where only that holds the first source.

    Raises:
        UsageError: there is no input, or it has no rows or no `source_uri`.

    Example:
        >>> read_input("photos/rows.csv", mapping={"file_name": "source_uri"}).table.num_rows
        48
    """
    uri = normalise(uri)
    try:
        whole = _read(uri)
    except PermissionError as error:
        raise UsageError(f"{uri}: the input may not be read: {error}") from error
    table = _renamed(whole.table, mapping or {}, uri)
    if "source_uri" not in table.column_names:
        hint = near_miss("source_uri", table.column_names)
        raise UsageError(f"{uri}: no column source_uri: {hint}; --map NAME=source_uri renames one")
    table = table.slice(0, limit) if limit is not None else table
    if table.num_rows == 0:
        raise UsageError(f"{uri}: the input has no rows")
    table = _with_text_sources(table, uri)
    first = table["source_uri"][0].as_py()
    return Input(table, normalise(base_uri) if base_uri else _base(whole.base_uri, first))


def input_version(uri: str) -> str | None:
    """Returns a word that changes with the content of a table; None for inputs without one."""
    table = uri if uri.lower().endswith(TABLE_SUFFIXES) else join(uri, _ROWS_FILE)
    return file_version(table)


def is_image_folder(uri: str) -> bool:
    """Tells whether an input is a folder whose images are listed: not a table, and not a run."""
    storage = Storage(uri)
    return is_folder(uri) and not storage.exists(_ROWS_FILE) and not storage.exists(RECIPE)


def _base(folder: str, first: str) -> str:
    """Returns a table's folder, or `images` in it; other sources are left to `fetch`."""
    if "://" in first or first.startswith("/"):
        return folder
    images = join(folder, "images")
    is_in_images = not _is_there(join(folder, first)) and _is_there(join(images, first))
    return images if is_in_images else folder


def _is_there(uri: str) -> bool:
    try:
        return is_file(uri)
    except PermissionError:
        raise
    except (OSError, ValueError):
        return False  # no file can have that name


def _with_text_sources(table: pa.Table, uri: str) -> pa.Table:
    sources = table["source_uri"]
    kind = sources.type.value_type if pa.types.is_dictionary(sources.type) else sources.type
    if not pa.types.is_string(kind) and not pa.types.is_large_string(kind):
        raise UsageError(f"{uri}: source_uri is {sources.type}; it must be text")
    if sources.null_count:
        raise UsageError(f"{uri}: source_uri is null in {sources.null_count} rows")
    index = table.column_names.index("source_uri")
    return table.set_column(index, "source_uri", sources.cast(pa.string()))


def _read(uri: str) -> Input:
    if uri.lower().endswith(TABLE_SUFFIXES) and is_file(uri):
        return Input(_read_table(uri), uri.rsplit("/", 1)[0] or "/")
    if is_file(uri):
        raise UsageError(f"{uri}: not a table; known endings: {', '.join(TABLE_SUFFIXES)}")
    if not is_folder(uri):
        raise UsageError(f"{uri}: no such input; give a folder of images or a table")
    storage = Storage(uri)
    if storage.exists(_ROWS_FILE):
        return Input(_read_table(storage.at(_ROWS_FILE)), uri)
    if storage.exists(RECIPE):
        return Input(_read_run(storage), uri)
    return Input(_list_images(uri), uri)


def _read_table(uri: str) -> pa.Table:
    try:
        table = _parsed(read_uri(uri), uri.lower().rsplit(".", 1)[-1])
        # Arrow decodes the names of columns only here, where an error is still reported.
        return table.rename_columns(table.column_names)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).split("\n", 1)[0]
        raise UsageError(f"{uri}: cannot be read as a table: {reason}") from error


def _parsed(data: bytes, ending: str) -> pa.Table:
    if ending == "parquet":
        return read_parquet(data)
    if ending == "csv":
        # An empty cell is no value; the word "null" or "NA" in a text is a word.
        lines = pa_csv.ParseOptions(newlines_in_values=True)
        nulls = pa_csv.ConvertOptions(null_values=[""], strings_can_be_null=True)
        return pa_csv.read_csv(io.BytesIO(data), parse_options=lines, convert_options=nulls)
    return pa_json.read_json(io.BytesIO(data))


def _read_run(storage: Storage) -> pa.Table:
    """Reads the accepted rows of a finished run: its edited images are the new sources."""
    folder = RunFolder(storage)
    if not folder.is_finished():
        raise UsageError(f"{storage.uri}: that run is not finished; run its command again first")
    tables = folder.tables(["key", "edited_uri"], {"status": "accepted"})
    table = pa.concat_tables(table for _, table in tables)
    return table.rename_columns(["parent_key", "source_uri"])


def _list_images(uri: str) -> pa.Table:
    names = Storage(uri).list() if is_local(uri) else _list_remote(uri)
    names = [name for name in names if _is_image(name)]
    if not names:
        raise UsageError(f"{uri}: no images there; known endings: {', '.join(IMAGE_SUFFIXES)}")
    try:
        return pa.table({"source_uri": pa.array(names, pa.string())})
    except UnicodeEncodeError as error:
        name = str(error.object).encode(errors="backslashreplace").decode()
        raise UsageError(f"{uri}: the name of {name} is not UTF-8 text; rename it") from error


def _is_image(path: str) -> bool:
    name = path.rsplit("/", 1)[-1]
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def _list_remote(uri: str) -> list[str]:
    """Lists a prefix, several of the folders at its top at a time."""
    fs = filesystem(uri)
    top: list[dict[str, Any]] = fs.ls(uri, detail=True)
    folders = [entry["name"] for entry in top if entry["type"] == "directory"]
    names = [entry["name"] for entry in top if entry["type"] == "file"]
    with ThreadPoolExecutor(16) as pool:
        for below in pool.map(fs.find, folders):
            names.extend(below)
    start = len(bare_path(uri)) + 1
    return sorted(name[start:] for name in names)


def _renamed(table: pa.Table, mapping: Mapping[str, str], uri: str) -> pa.Table:
    for name in mapping:
        if name not in table.column_names:
            hint = near_miss(name, table.column_names)
            raise UsageError(f"{uri}: --map {name}=...: no such column: {hint}")
    names = [mapping.get(name, name) for name in table.column_names]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{uri}: two columns are named {name!r}: --map NAME=OTHER renames one")
    return table.rename_columns(names)
