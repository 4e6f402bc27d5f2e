"""Reading the files that a table names: which of them may be read, and how many bytes.

What is inside the input's own folder or prefix may always be read, and so may an object of a store
whose scheme is allowed. Links in a folder are followed: its owner made them, not the table.
"""

import errno
import os
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from overpaint.operators.sources import web
from overpaint.operators.sources.spelling import other_spelling
from overpaint.operators.sources.web import DownloadLimits
from overpaint.pipeline.errors import RowError, UsageError
from overpaint.pipeline.storage.store import read_uri, size_bytes
from overpaint.pipeline.storage.uris import is_local, join, local_path

OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
"""Schemes, as fsspec spells them, that a table may name by default."""
MAX_BYTES = 256 * 2**20
"""Size of the largest file that is read by default."""

_WEB = ("http", "https")
_NUM_THREADS = 16
_NO_FILE = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)


@dataclass(frozen=True, slots=True)
class Access:
    """Permissions of the URIs of a table.

    Attributes:
        schemes: schemes of the object stores that may be read.
        web: limits of http and https; None forbids both.
        local_files: whether files outside the input's folder may be read.
        max_bytes: size of the largest file.
    """

    schemes: tuple[str, ...] = OBJECT_STORES
    web: DownloadLimits | None = None
    local_files: bool = False
    max_bytes: int = MAX_BYTES


class Reader:
    """Reads the files of one batch after another, several at a time.

    Args:
        access: what may be read.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._pool = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="fetch")

    def read(self, base_uri: str, uris: Iterable[str]) -> dict[str, bytes | RowError]:
        """Reads each file once, and returns its bytes, or why it cannot be read, by its URI.

        Args:
            base_uri: folder or prefix that relative URIs are relative to.
            uris: as the table has them.
        """
        names = list(dict.fromkeys(uris))
        files = self._pool.map(partial(self._file, base_uri), names)
        return dict(zip(names, files, strict=True))

    def _file(self, base_uri: str, uri: str) -> bytes | RowError:
        try:
            return read_source(base_uri, uri, self._access)
        except RowError as error:
            return error


def read_source(base_uri: str, uri: str, access: Access) -> bytes:
    """Returns the bytes of the file that a table's URI names.

    Args:
        base_uri: folder or prefix that relative URIs are relative to.
        uri: as the table has it.
        access: what may be read.

    Raises:
        RowError: `source_missing`, `source_forbidden`, `source_too_large`; of the web also
            `source_timeout` and `source_unreachable`.
    """
    uri = _permitted(base_uri, uri, access)
    if access.web is not None and _scheme(uri) in _WEB:
        return web.download(uri, access.web)
    return _read(uri, access.max_bytes)


def check_source(base_uri: str, uri: str, access: Access) -> None:
    """Checks that a file may be read and is there, without reading it; of the web, that it may.

    Args:
        base_uri: folder or prefix that relative URIs are relative to.
        uri: as the table has it.
        access: what may be read.

    Raises:
        RowError: `source_missing` or `source_forbidden`.
    """
    uri = _permitted(base_uri, uri, access)
    if _scheme(uri) not in _WEB:
        _size_bytes(uri)


def _permitted(base_uri: str, uri: str, access: Access) -> str:
    """Returns the whole URI of a file that may be read, of this machine as a plain path."""
    uri = join(base_uri, uri)
    scheme = _scheme(uri)
    if scheme in _WEB:
        if access.web is None:
            raise RowError("source_forbidden", "an http URL, and allow_http is false")
    elif scheme is None:
        uri = os.path.normpath(local_path(uri))
        _check_file(uri, base_uri, access)
    else:
        _check_object(uri, scheme, base_uri, access)
    return uri


def _scheme(uri: str) -> str | None:
    """Returns the scheme of a URI; None for a file of this machine."""
    return None if is_local(uri) else uri.split("://", 1)[0].lower()


def _check_file(path: str, base_uri: str, access: Access) -> None:
    if access.local_files:
        return
    if base_uri and is_local(base_uri):
        root = os.path.normpath(local_path(base_uri)).rstrip(os.sep) + os.sep
        if path.startswith(root):
            return
    raise RowError(
        "source_forbidden", "a file outside the input's folder, and allow_local_files is false"
    )


def _check_object(uri: str, scheme: str, base_uri: str, access: Access) -> None:
    is_inside = bool(base_uri) and uri.startswith(f"{base_uri.rstrip('/')}/")
    # fsspec chains filesystems at "::", and so could reach any of them; a key may hold it.
    if ("::" in uri and not is_inside) or ".." in uri.split("/"):
        raise RowError("source_forbidden", "a source's URI must not hold '::' or '..'")
    if not is_inside and scheme not in access.schemes:
        raise RowError("source_forbidden", f"the scheme {scheme!r} is not one of allow_schemes")


def _read(uri: str, max_bytes: int) -> bytes:
    size = _size_bytes(uri)
    if size > max_bytes:
        raise RowError("source_too_large", f"{size} bytes are more than max_bytes = {max_bytes}")
    with _row_errors(uri):
        return read_uri(uri)


def _size_bytes(uri: str) -> int:
    with _row_errors(uri):
        if is_local(uri) and not local_path(uri).is_file():
            raise FileNotFoundError(uri)
        return size_bytes(uri)


@contextmanager
def _row_errors(uri: str) -> Generator[None]:
    """Turns the errors of a file that is not there, or may not be read, into those of its row."""
    try:
        yield
    except UsageError as error:
        raise RowError("source_unreachable", str(error).removeprefix(f"{uri}: ")) from error
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise RowError("source_missing", f"no file is there{_spelled(uri)}") from error
    except PermissionError as error:
        raise RowError("source_forbidden", "the file may not be read") from error
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        raise RowError("source_missing", "no file can have that name") from error
    except ValueError as error:
        raise RowError("source_missing", "no file can have that name") from error


def _spelled(uri: str) -> str:
    other = other_spelling(uri) if is_local(uri) else None
    return f", but {other!r} is: it is spelled otherwise" if other else ""
