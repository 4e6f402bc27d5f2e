"""Reading the files that a table names: which of them may be read, and how many bytes.

What is inside the input's own folder or prefix may always be read, and so may an object of a store
whose scheme is allowed. Links in a folder are followed: its owner made them, not the table.
"""

import errno
import os
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from overpaint.operators.sources import web
from overpaint.operators.sources.packed import PackedReader, Pointer, Span
from overpaint.operators.sources.spelling import other_spelling
from overpaint.operators.sources.web import DownloadLimits
from overpaint.pipeline.errors import RowError, UsageError
from overpaint.pipeline.storage.packed import CellAddress, MemberAddress, packed_address
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
        self._packed = PackedReader(access.max_bytes)
        self._pool = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="fetch")

    def read(
        self, base_uri: str, uris: Iterable[str], spans: Mapping[str, Span] | None = None
    ) -> dict[str, bytes | RowError]:
        """Reads each file once, and returns its bytes, or why it cannot be read, by its URI.

        Args:
            base_uri: folder or prefix that relative URIs are relative to.
            uris: as the table has them.
            spans: places of members of tars, by their addresses, as far as they are known.
        """
        names = list(dict.fromkeys(uris))
        single, tables = list[str](), defaultdict[str, list[str]](list)
        for name in names:
            address = _packed(base_uri, name)
            if isinstance(address, CellAddress):
                tables[address.container].append(name)
            else:
                single.append(name)
        one = partial(self._file, base_uri, spans or {})
        found = dict(zip(single, self._pool.map(one, single), strict=True))
        for cells in self._pool.map(partial(self._cells, base_uri), tables.values()):
            found |= cells
        return {name: found[name] for name in names}

    def one(self, base_uri: str, uri: str, span: Span | None = None) -> bytes:
        """Reads one source; raises what `read_source` does.

        Args:
            base_uri: folder or prefix that relative URIs are relative to.
            uri: as the table has it.
            span: place of a member of a tar, where it is known.
        """
        return _source(base_uri, uri, self._access, self._packed, span)

    def _file(self, base_uri: str, spans: Mapping[str, Span], uri: str) -> bytes | RowError:
        try:
            return self.one(base_uri, uri, spans.get(uri))
        except RowError as error:
            return error

    def _cells(self, base_uri: str, uris: Sequence[str]) -> dict[str, bytes | RowError]:
        try:
            return _cells(base_uri, uris, self._access, self._packed)
        except RowError as error:
            return dict.fromkeys(uris, error)


def read_source(base_uri: str, uri: str, access: Access) -> bytes:
    """Returns the bytes of the source that a table's URI names.

    Args:
        base_uri: folder or prefix that relative URIs are relative to.
        uri: as the table has it: of a file, or the address of a source that is packed with others.
        access: what may be read.

    Raises:
        RowError: `source_missing`, `source_forbidden`, `source_too_large`; of the web also
            `source_timeout` and `source_unreachable`; of a packed one also `source_null`,
            `source_ambiguous` and `source_unreadable`.
    """
    return Reader(access).one(base_uri, uri)


def _source(
    base_uri: str, uri: str, access: Access, packed: PackedReader, span: Span | None
) -> bytes:
    address = _packed(base_uri, uri)
    if isinstance(address, CellAddress):
        data = _cells(base_uri, [uri], access, packed)[uri]
        if isinstance(data, RowError):
            raise data
        return data
    if address is not None:
        tar = _permitted(base_uri, address.container, access)
        with _row_errors(tar):
            return packed.member(tar, address, span)
    return _plain_file(base_uri, uri, access)


def _plain_file(base_uri: str, uri: str, access: Access) -> bytes:
    uri = _permitted(base_uri, uri, access)
    if access.web is not None and _scheme(uri) in _WEB:
        return web.download(uri, access.web)
    return _read(uri, access.max_bytes)


def _cells(
    base_uri: str, uris: Sequence[str], access: Access, packed: PackedReader
) -> dict[str, bytes | RowError]:
    """Reads cells of one table, by their addresses."""
    addresses = [address for uri in uris if isinstance(address := packed_address(uri), CellAddress)]
    table = _permitted(base_uri, addresses[0].container, access)
    with _row_errors(table):
        found = packed.cells(table, addresses)
    return {
        uri: _pointed_to(base_uri, data, access) if isinstance(data, Pointer) else data
        for uri, data in zip(uris, found, strict=True)
    }


def _pointed_to(base_uri: str, pointer: Pointer, access: Access) -> bytes | RowError:
    """Reads the file that a cell names in the place of bytes; it is no address of another cell."""
    try:
        return _plain_file(base_uri, pointer.path, access)
    except RowError as error:
        return error


def _packed(base_uri: str, uri: str) -> MemberAddress | CellAddress | None:
    """Returns the address of a packed source; None for a file, and of the web."""
    address = packed_address(uri)
    if address is None:
        return None
    whole = join(base_uri, uri)
    if _scheme(whole) in _WEB or (is_local(whole) and _is_there(whole)):
        return None
    return address


def _is_there(uri: str) -> bool:
    try:
        return local_path(uri).is_file()
    except (OSError, ValueError):
        return False


def check_source(base_uri: str, uri: str, access: Access) -> None:
    """Checks that a file may be read and is there, without reading it; of the web, that it may.

    Of a source that is packed with others it is their file that is looked at.

    Args:
        base_uri: folder or prefix that relative URIs are relative to.
        uri: as the table has it.
        access: what may be read.

    Raises:
        RowError: `source_missing` or `source_forbidden`.
    """
    address = _packed(base_uri, uri)
    uri = _permitted(base_uri, address.container if address else uri, access)
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
