"""Tables by the endings of their files."""

import hashlib
from collections.abc import Collection, Sequence

import pyarrow as pa
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.identity import digest
from overpaint.pipeline.storage.store import file_version, read_uri
from overpaint.pipeline.storage.uris import is_local, local_path
from overpaint.pipeline.tables.csv_text import read_csv
from overpaint.pipeline.tables.json_lines import read_json_lines
from overpaint.pipeline.tables.parquet import read_parquet_files
from overpaint.pipeline.tables.texts import ReadTable

TABLE_SUFFIXES = (".parquet", ".jsonl", ".csv")
SHARD_SUFFIX = ".parquet"
"""Ending of the files of a table that is in several."""


def is_table(name: str) -> bool:
    """Tells whether a file is a table by its ending."""
    return name.lower().endswith(TABLE_SUFFIXES)


def read_table(
    uris: Sequence[str], *, source: str = "source_uri", with_bytes: Collection[str] = ()
) -> ReadTable:
    """Reads a table in one file, or in several Parquet files one after another.

    Args:
        uris: URIs of the files.
        source: name of the column of sources in the files.
        with_bytes: names of the columns that are read also if they hold bytes.

    Raises:
        UsageError: a file is not the table that its ending says, or not one that can be read
            without a guess; names the line.
        FileNotFoundError: there is no such file.
        PermissionError: a file may not be read.
    """
    ending = uris[0].lower().rsplit(".", 1)[-1]
    try:
        if ending == "parquet":
            return read_parquet_files(uris, with_bytes)
        if ending == "csv":
            return read_csv(read_uri(uris[0]), source)
        return read_json_lines(read_uri(uris[0]))
    except (UsageError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).split("\n", 1)[0]
        where = uris[0] if len(uris) == 1 else f"{uris[0]} and {len(uris) - 1} more"
        raise UsageError(f"{where}: cannot be read as a table: {reason}") from error


def tables_version(uris: Sequence[str]) -> str | None:
    """Returns a word that changes with the files of a table; None where there is none."""
    versions = [file_version(uri) for uri in uris]
    return versions[0] if len(uris) == 1 else digest([list(uris), versions]) if uris else None


def tables_sha256(uris: Sequence[str]) -> str | None:
    """Returns the SHA-256 of the files of a table; None for those of a store, which has ETags."""
    if not uris or not all(is_local(uri) for uri in uris):
        return None
    hashes: list[str] = []
    for uri in uris:
        with local_path(uri).open("rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashes[0] if len(hashes) == 1 else digest(hashes, 64)
