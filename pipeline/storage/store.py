"""Storage below one URI, with atomic writes: a local path, or any fsspec URL such as `s3://`.

A write is one temporary file and one rename on a local disk, and one PUT on an object store, so
that a reader sees the old object, the new one or none. Transient errors (throttling, a reset
connection) are retried; others (missing, forbidden, disk full) rise at once. A store that does not
come back, or that takes no writes, stops the run: no row is at fault.
"""

import builtins
import errno
import os
import shutil
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from overpaint.pipeline.errors import StoppedError
from overpaint.pipeline.storage.filesystems import make_filesystem, scheme_of
from overpaint.pipeline.storage.retries import retry_transient
from overpaint.pipeline.storage.uris import is_local, join, local_path

T = TypeVar("T")

_NO_WRITES = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_NUM_THREADS = 16


def filesystem(uri: str) -> Any:
    """Returns the fsspec filesystem of a URI, without a cache of listings: others write too."""
    if scheme_of(uri) in ("s3", "s3a"):
        retries = {"retries": {"mode": "adaptive", "max_attempts": 5}}
        return make_filesystem(uri, {"use_listings_cache": False, "config_kwargs": retries})
    return make_filesystem(uri)


def bare_path(uri: str) -> str:
    """Returns a remote URI as its filesystem names it in listings: without the scheme."""
    return str(filesystem(uri)._strip_protocol(uri))


def is_file(uri: str) -> bool:
    """Tells whether an object is at a URI; raises any error of the store but its absence."""
    return local_path(uri).is_file() if is_local(uri) else _type_of(uri) == "file"


def is_folder(uri: str) -> bool:
    """Tells whether objects are below a URI; raises any error of the store but their absence."""
    return local_path(uri).is_dir() if is_local(uri) else _type_of(uri) == "directory"


@retry_transient
def _type_of(uri: str) -> str | None:
    # fsspec's own isfile and isdir answer False to a wrong secret and to a lost connection.
    try:
        return filesystem(uri).info(uri)["type"]
    except FileNotFoundError:
        return None


@retry_transient
def read_uri(uri: str) -> bytes:
    """Reads the object at a URI.

    Raises:
        FileNotFoundError: there is no object.
        PermissionError: the object may not be read.
    """
    if is_local(uri):
        return local_path(uri).read_bytes()
    return filesystem(uri).cat_file(uri)


@retry_transient
def read_range(uri: str, start: int, stop: int) -> bytes:
    """Reads the bytes of an object from `start` to before `stop`, fewer where it ends earlier.

    Raises:
        FileNotFoundError: there is no object.
        PermissionError: the object may not be read.
    """
    if is_local(uri):
        with local_path(uri).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)
    return filesystem(uri).cat_file(uri, start=start, end=stop)


def open_uri(uri: str, block_bytes: int | None = None) -> IO[bytes]:
    """Opens the object at a URI, to read parts of it.

    Args:
        uri: URI of the object.
        block_bytes: bytes that are read ahead of a store's object; None for its client's number.

    Raises:
        FileNotFoundError: there is no object.
        PermissionError: the object may not be read.
    """
    if is_local(uri):
        return local_path(uri).open("rb")
    options = {"block_size": block_bytes} if block_bytes else {}
    return filesystem(uri).open(uri, "rb", **options)


@retry_transient
def size_bytes(uri: str) -> int:
    """Returns the size of the object at a URI.

    Raises:
        FileNotFoundError: there is no object.
        PermissionError: the store refuses to tell.
    """
    if is_local(uri):
        return local_path(uri).stat().st_size
    return int(filesystem(uri).info(uri)["size"] or 0)


@retry_transient
def file_version(uri: str) -> str | None:
    """Returns a word that changes with an object: ETag, or size and time; None if it is absent."""
    try:
        if is_local(uri):
            stat = local_path(uri).stat()
            return f"{stat.st_size}-{stat.st_mtime_ns}"
        info: dict[str, Any] = filesystem(uri).info(uri)
    except (FileNotFoundError, NotADirectoryError):
        return None
    word = info.get("ETag") or f"{info.get('size')}-{info.get('LastModified')}"
    return str(word).strip('"')


@dataclass(frozen=True, slots=True)
class Storage:
    """Objects below one URI; their paths are relative to it, with `/`.

    Attributes:
        uri: a local path, or any fsspec URL.

    Example:
        >>> storage = Storage("s3://bucket/run")
        >>> storage.write("notes.txt", b"hello")
        >>> storage.list()
        ['notes.txt']
    """

    uri: str

    def at(self, path: str) -> str:
        """Returns the full URI of a path."""
        return join(self.uri, path) if path else self.uri

    def read(self, path: str) -> bytes:
        """Reads the object at `path`; raises `FileNotFoundError` where there is none."""
        return read_uri(self.at(path))

    def write(self, path: str, data: bytes) -> None:
        """Writes `data` to `path` in one step, over whatever is there.

        Raises:
            StoppedError: the disk is full, or nothing may be written there.
        """
        with _writing(self.at(path)):
            if is_local(self.uri):
                _replace(local_path(self.at(path)), data)
            else:
                _put(self.at(path), data)

    def upload(self, path: str, file: Path) -> None:
        """Writes the content of a local file to `path` in one step, over whatever is there.

        Memory does not hold the content.

        Raises:
            StoppedError: the disk is full, or nothing may be written there.
        """
        with _writing(self.at(path)):
            if is_local(self.uri):
                _replace(local_path(self.at(path)), file)
            else:
                _put_file(self.at(path), file)

    def create(self, path: str, data: bytes) -> bool:
        """Writes `data` to `path` unless an object is there; returns False where one is.

        A store without conditional writes writes in any case, and True is returned.

        Raises:
            StoppedError: the disk is full, or nothing may be written there.
        """
        try:
            with _writing(self.at(path)):
                if is_local(self.uri):
                    _link(local_path(self.at(path)), data)
                else:
                    _create(self.at(path), data)
        except FileExistsError:
            return False
        return True

    def exists(self, path: str) -> bool:
        """Tells whether an object is at `path`."""
        return is_file(self.at(path))

    def list(self, path: str = "") -> list[str]:
        """Returns the paths of all objects below `path`, sorted; none where it is absent."""
        return sorted(self.sizes(path))

    def sizes(self, path: str = "") -> dict[str, int]:
        """Returns the size in bytes of every object below `path`, by path."""
        if is_local(self.uri):
            return _walk(local_path(self.uri), local_path(self.at(path)))
        return _find(self.uri, self.at(path))

    def walk(self, path: str = "") -> Iterator[builtins.list[str]]:
        """Yields the paths below `path`, a folder at a time: memory does not hold millions.

        On a store only the folders right below `path` are told apart: each is one list.
        """
        if is_local(self.uri):
            sizes_by_folder = _walk_folders(local_path(self.uri), local_path(self.at(path)))
            yield from (sorted(sizes) for sizes in sizes_by_folder)
            return
        folders, objects = _top(self.uri, self.at(path))
        yield sorted(objects)
        yield from (self.list(folder) for folder in sorted(folders))

    def remove(self, paths: Iterable[str]) -> None:
        """Removes objects, one request each: not every store takes a bulk delete."""
        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            list(pool.map(self._remove, paths))

    def _remove(self, path: str) -> None:
        try:
            if is_local(self.uri):
                local_path(self.at(path)).unlink()
            else:
                retry_transient(filesystem(self.uri).rm_file)(self.at(path))
        except FileNotFoundError:
            return

    def remove_tree(self, path: str, *, but: str | None = None) -> None:
        """Removes every object below `path`, and on a local disk the folders too.

        Args:
            path: path of a folder.
            but: path of an object right below it that stays.
        """
        if not is_local(self.uri):
            self.remove(other for other in self.list(path) if other != but)
        elif local_path(self.at(path)).is_dir():
            _remove_folder(local_path(self.at(path)), local_path(self.at(but)) if but else None)

    def remove_empty_folder(self, path: str) -> None:
        """Removes a folder of a local disk if it is empty; a store has no folders."""
        if is_local(self.uri):
            with suppress(OSError):
                local_path(self.at(path)).rmdir()

    def leftovers(self, path: str = "") -> builtins.list[str]:
        """Returns the files that killed writers left on a local disk; nobody may be writing."""
        if not is_local(self.uri):
            return []
        root = local_path(self.uri)
        files = local_path(self.at(path)).rglob(".*.tmp")
        return sorted(file.relative_to(root).as_posix() for file in files)

    def remove_leftovers(self, path: str = "") -> None:
        """Removes the files that killed writers left below `path`; nobody may be writing."""
        self.remove(self.leftovers(path))

    def map(self, call: Callable[[str], T], paths: Iterable[str]) -> builtins.list[T]:
        """Calls a function for each path, several at a time; returns the results in order."""
        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            return list(pool.map(call, paths))


@contextmanager
def _writing(uri: str) -> Generator[None]:
    """Turns an error that would stop every write into a `StoppedError`."""
    try:
        yield
    except OSError as error:
        # On a store there are no folders to be missing: the bucket is.
        is_bucket_missing = isinstance(error, FileNotFoundError) and not is_local(uri)
        is_refused = error.errno in _NO_WRITES or isinstance(error, PermissionError)
        if is_refused or is_bucket_missing:
            raise StoppedError(f"{uri} could not be written: {error.strerror or error}") from error
        raise


def _replace(path: Path, content: bytes | Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        if isinstance(content, Path):
            shutil.copyfile(content, temporary)
        else:
            temporary.write_bytes(content)
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _remove_folder(folder: Path, but: Path | None) -> None:
    if but is None:
        shutil.rmtree(folder)
        return
    for child in folder.iterdir():
        if child.is_dir():
            shutil.rmtree(child)
        elif child != but:
            child.unlink(missing_ok=True)


def _link(path: Path, data: bytes) -> None:
    """Writes a whole file in one step, unless the path is taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.write_bytes(data)
    try:
        path.hardlink_to(temporary)
    finally:
        temporary.unlink()


@retry_transient
def _create(uri: str, data: bytes) -> None:
    filesystem(uri).pipe_file(uri, data, mode="create")


@retry_transient
def _put(uri: str, data: bytes) -> None:
    filesystem(uri).pipe_file(uri, data)


@retry_transient
def _put_file(uri: str, file: Path) -> None:
    filesystem(uri).put_file(str(file), uri)


def _walk(root: Path, below: Path) -> dict[str, int]:
    return {path: size for sizes in _walk_folders(root, below) for path, size in sizes.items()}


def _walk_folders(root: Path, below: Path) -> Iterator[dict[str, int]]:
    for folder, folders, names in os.walk(below, onerror=_unless_gone):
        # On a disk of its own, which only root may read.
        folders[:] = (name for name in folders if name != "lost+found")
        sizes: dict[str, int] = {}
        for name in names:
            path = Path(folder, name)
            if not (name.startswith(".") and name.endswith(".tmp")):
                with suppress(FileNotFoundError):
                    sizes[path.relative_to(root).as_posix()] = path.stat().st_size
        yield sizes


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


@retry_transient
def _find(root: str, below: str) -> dict[str, int]:
    objects: dict[str, dict[str, Any]] = filesystem(root).find(below, detail=True)
    start, prefix = len(bare_path(root)) + 1, bare_path(below) + "/"
    return {
        path[start:]: int(info["size"]) for path, info in objects.items() if path.startswith(prefix)
    }


@retry_transient
def _top(root: str, below: str) -> tuple[list[str], list[str]]:
    """Returns the folders and the objects right below a URI of a store, relative to its root."""
    try:
        entries: list[dict[str, Any]] = filesystem(root).ls(below, detail=True)
    except FileNotFoundError:
        return [], []
    start, prefix = len(bare_path(root)) + 1, bare_path(below) + "/"
    names: dict[str, list[str]] = {"directory": [], "file": []}
    for entry in entries:
        if entry["name"].startswith(prefix):
            names[entry["type"]].append(entry["name"].rstrip("/")[start:])
    return names["directory"], names["file"]
