"""The table that a run starts from: a folder of images, a table with `source_uri`, another run."""

import io
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.storage import (
    Storage,
    filesystem,
    is_file,
    is_folder,
    is_local,
    normalise,
)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
TABLE_SUFFIXES = (".parquet", ".jsonl", ".csv")
_ROWS_FILE = "rows.jsonl"


@dataclass(frozen=True, slots=True)
class Input:
    """The rows to plan.

    Args:
        table: has `source_uri` and whatever else the input gives.
        base_uri: what its relative URIs are relative to.
    """

    table: pa.Table
    base_uri: str


def read_input(
    uri: str, *, limit: int | None = None, mapping: Mapping[str, str] | None = None
) -> Input:
    """Reads the input of a run.

    Args:
        uri: a Parquet, JSONL or CSV table with `source_uri`; a folder with `rows.jsonl`; another
            run's folder, whose accepted images become the sources; or a folder of images.
        limit: how many rows to take from the front; None for all.
        mapping: new names of columns by their names in the table.

    Raises:
        UsageError: nothing lies there, or it has no rows or no `source_uri`.
    """
    uri = normalise(uri)
    found = _read(uri)
    table = _renamed(found.table, mapping or {}, uri)
    if "source_uri" not in table.column_names:
        known = near_miss("source_uri", table.column_names)
        raise UsageError(f"{uri}: no column source_uri: {known} --map NAME=source_uri renames one")
    table = table.slice(0, limit) if limit is not None else table
    if table.num_rows == 0:
        raise UsageError(f"{uri}: the input has no rows")
    sources = table["source_uri"]
    if not pa.types.is_string(sources.type) and not pa.types.is_large_string(sources.type):
        raise UsageError(f"{uri}: source_uri is {sources.type}; it must be text")
    if sources.null_count:
        raise UsageError(f"{uri}: source_uri is null in {sources.null_count} rows")
    return Input(table, found.base_uri)


def _read(uri: str) -> Input:
    if uri.lower().endswith(TABLE_SUFFIXES) and is_file(uri):
        return Input(_read_table(uri), uri.rsplit("/", 1)[0])
    if not is_folder(uri):
        raise UsageError(f"{uri}: no such input; give a folder of images or a table")
    storage = Storage(uri)
    if storage.exists(_ROWS_FILE):
        return Input(_read_table(storage.at(_ROWS_FILE)), uri)
    if storage.exists("recipe.json"):
        return Input(_read_run(storage), uri)
    return Input(_list_images(uri), uri)


def _read_table(uri: str) -> pa.Table:
    folder, name = uri.rsplit("/", 1)
    data = io.BytesIO(Storage(folder).read(name))
    try:
        if name.lower().endswith(".parquet"):
            return pq.read_table(data)
        if name.lower().endswith(".csv"):
            return pa_csv.read_csv(data)
        return pa_json.read_json(data)
    except pa.ArrowInvalid as error:
        reason = str(error).split("\n", 1)[0]
        raise UsageError(f"{uri}: cannot be read as a table: {reason}") from error


def _read_run(storage: Storage) -> pa.Table:
    """The accepted rows of a finished run: its edited images are the new sources."""
    parts = [path for path in storage.list("manifest") if path.endswith(".parquet")]
    if not parts:
        raise UsageError(f"{storage.uri}: that run has no manifest yet; finish it first")
    columns = ["key", "edited_uri", "status"]
    tables = [pq.read_table(io.BytesIO(storage.read(path)), columns=columns) for path in parts]
    table = pa.concat_tables(tables)
    accepted = table.filter(pc.equal(table["status"], "accepted"))
    return pa.table({"source_uri": accepted["edited_uri"], "parent_key": accepted["key"]})


def _list_images(uri: str) -> pa.Table:
    if is_local(uri):
        names = [path for path in Storage(uri).list() if path.lower().endswith(IMAGE_SUFFIXES)]
        names = [name for name in names if not name.rsplit("/", 1)[-1].startswith(".")]
    else:
        names = _list_remote_images(uri)
    if not names:
        raise UsageError(f"{uri}: no images there; known endings: {', '.join(IMAGE_SUFFIXES)}")
    return pa.table({"source_uri": pa.array(names, pa.string())})


def _list_remote_images(uri: str) -> list[str]:
    """Lists a prefix with one request stream for each folder at its top, several at a time."""
    fs = filesystem(uri)
    top: list[dict[str, Any]] = fs.ls(uri, detail=True)
    folders = [entry["name"] for entry in top if entry["type"] == "directory"]
    names = [entry["name"] for entry in top if entry["type"] == "file"]
    with ThreadPoolExecutor(16) as pool:
        for found in pool.map(fs.find, folders):
            names.extend(found)
    start = len(uri.split("://", 1)[1]) + 1
    return sorted(name[start:] for name in names if name.lower().endswith(IMAGE_SUFFIXES))


def _renamed(table: pa.Table, mapping: Mapping[str, str], uri: str) -> pa.Table:
    for name in mapping:
        if name not in table.column_names:
            hint = near_miss(name, table.column_names)
            raise UsageError(f"{uri}: --map {name}=...: no such column: {hint}")
    return table.rename_columns([mapping.get(name, name) for name in table.column_names])


def jsonl_bytes(rows: list[dict[str, Any]]) -> bytes:
    """Rows as JSON lines, the form of `rows.jsonl`."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
