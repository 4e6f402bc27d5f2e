"""Tables by the endings of their files."""

import hashlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.identity import digest
from overpaint.pipeline.storage.store import file_version, read_uri
from overpaint.pipeline.storage.uris import is_local, join, local_path
from overpaint.pipeline.tables.arrow_files import arrow_part
from overpaint.pipeline.tables.csv_text import read_csv
from overpaint.pipeline.tables.json_lines import read_json_lines
from overpaint.pipeline.tables.parquet import parquet_part, paths_alone, values_without_bytes
from overpaint.pipeline.tables.parts import part_of_table
from overpaint.pipeline.tables.pictures import PictureFile
from overpaint.pipeline.tables.spool import Spool
from overpaint.pipeline.tables.texts import ReadTable
from overpaint.pipeline.tables.webdataset import read_tar

TABLE_SUFFIXES = (".parquet", ".jsonl", ".csv", ".tar", ".arrow")
"""Endings of tables; of a folder with several kinds, the first of these is read."""
_PARQUET, _JSON_LINES, _CSV, _TAR, _ARROW = TABLE_SUFFIXES
_NUM_THREADS = 16
_MAX_HASHED_BYTES = 4 * 2**30
_NUM_TEXTS = 4
"""Files of lines or tars that are read at once: each is in memory meanwhile."""


@dataclass(frozen=True, slots=True)
class OpenedTable:
    """Table in one or more files, whose columns are known.

    Attributes:
        files: parts of the table, each with a way to read its pictures.
        may_lack: whether a part may lack columns that others have.
        left_out: members of tars that are left out, by ending.
        without_picture: samples of tars without a picture.
    """

    files: tuple[PictureFile, ...]
    may_lack: bool = False
    left_out: Counter[str] = field(default_factory=Counter[str])
    without_picture: int = 0


def is_table(name: str) -> bool:
    """Tells whether a file is a table by its ending."""
    return name.lower().endswith(TABLE_SUFFIXES)


def ending_of(name: str) -> str:
    """Returns the ending of a table's file."""
    return next(suffix for suffix in TABLE_SUFFIXES if name.lower().endswith(suffix))


def open_table(
    folder: str, paths: Sequence[str], *, source: str = "source_uri", limit: int | None = None
) -> OpenedTable:
    """Opens a table that is in one or more files of one kind.

    Args:
        folder: folder or prefix of the files.
        paths: paths of the files in it, at least one, in order.
        source: name of the column of sources in the files.
        limit: rows that are wanted; files after those that hold them are not opened.

    Raises:
        UsageError: a file is not the table that its ending says, or not one that can be read
            without a guess; names the line.
        FileNotFoundError: there is no such file.
        PermissionError: a file may not be read.
    """
    ending = ending_of(paths[0])
    if ending == _TAR:
        return _open_tars(folder, paths, limit)
    if ending in (_PARQUET, _ARROW):
        open_one = partial(_open_columns, folder)
        return OpenedTable(tuple(_opened(open_one, paths, _NUM_THREADS, limit)))
    files = _open_texts(folder, paths, source, limit)
    return OpenedTable(tuple(files), ending == _JSON_LINES)


def _opened(
    open_one: Callable[[str], PictureFile],
    paths: Sequence[str],
    num_threads: int,
    limit: int | None,
) -> list[PictureFile]:
    """Opens files, several at a time, until they hold as many rows as are wanted."""
    step = len(paths) if limit is None else num_threads
    found, num_rows = list[PictureFile](), 0
    with ThreadPoolExecutor(num_threads) as pool:
        for start in range(0, len(paths), step):
            found += pool.map(open_one, paths[start : start + step])
            num_rows = sum(file.part.num_rows or 0 for file in found)
            if limit is not None and num_rows >= limit:
                break
    return found


def _open_texts(
    folder: str, paths: Sequence[str], source: str, limit: int | None
) -> list[PictureFile]:
    if len(paths) == 1:
        found = _read_text(join(folder, paths[0]), source)
        return [PictureFile(part_of_table(paths[0], found.table, found.lines))]
    spool = Spool()

    def read(path: str) -> PictureFile:
        return PictureFile(spool.add(path, _read_text(join(folder, path), source).table))

    return _opened(read, paths, _NUM_TEXTS, limit)


def _read_text(uri: str, source: str) -> ReadTable:
    with _named(uri):
        data = read_uri(uri)
        return read_csv(data, source) if ending_of(uri) == _CSV else read_json_lines(data)


def _open_tars(folder: str, paths: Sequence[str], limit: int | None) -> OpenedTable:
    spool = Spool()
    left_out, without_picture = dict[str, Counter[str]](), dict[str, int]()

    def read(path: str) -> PictureFile:
        with _named(join(folder, path)):
            found = read_tar(join(folder, path), path)
        left_out[path], without_picture[path] = found.left_out, found.without_picture
        return PictureFile(spool.add(path, found.table))

    files = _opened(read, paths, _NUM_TEXTS, limit)
    counts = sum(left_out.values(), Counter[str]())
    return OpenedTable(tuple(files), True, counts, sum(without_picture.values()))


def _open_columns(folder: str, path: str) -> PictureFile:
    """Opens a Parquet or Arrow file by what it says of its columns."""
    uri = join(folder, path)
    with _named(uri):
        if ending_of(path) == _PARQUET:
            values = partial(values_without_bytes, uri)
            return PictureFile(parquet_part(uri, path), values, partial(paths_alone, uri))
        part = arrow_part(uri, path)

    def values_of(column: str) -> Iterator[Any]:
        for table in part.read([column]):
            yield from table[column].chunks

    return PictureFile(part, values_of)


@contextmanager
def _named(uri: str) -> Generator[None]:
    """Puts the URI of a table's file before the errors of the body."""
    try:
        yield
    except FileNotFoundError as error:
        raise UsageError(f"{uri}: there is no such file") from error
    except (UsageError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).split("\n", 1)[0]
        raise UsageError(f"{uri}: cannot be read as a table: {reason}") from error


def tables_version(uris: Sequence[str]) -> str | None:
    """Returns a word that changes with the files of a table; None where there is none."""
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        versions = list(pool.map(file_version, uris))
    return versions[0] if len(uris) == 1 else digest([list(uris), versions]) if uris else None


def tables_sha256(uris: Sequence[str]) -> str | None:
    """Returns the SHA-256 of the files of a table; None for those of a store, which has ETags.

    None also for files that together have more than 4 GiB, which would take minutes.
    """
    if not uris or not all(is_local(uri) for uri in uris):
        return None
    if sum(local_path(uri).stat().st_size for uri in uris) > _MAX_HASHED_BYTES:
        return None
    hashes: list[str] = []
    for uri in uris:
        with local_path(uri).open("rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashes[0] if len(hashes) == 1 else digest(hashes, 64)
