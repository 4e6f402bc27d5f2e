"""Destination of an export: files that are written in one step each, and that a kill cannot halve.

A marker is written first and `export.json` last. A folder with the marker and no `export.json` is
what a killed export left: the next one empties it and begins again.
"""

import json
import tempfile
from collections import deque
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.storage.checks import check_folder, check_writable, first_contact
from overpaint.pipeline.storage.clutter import is_clutter
from overpaint.pipeline.storage.store import Storage
from overpaint.pipeline.storage.uris import normalise

EXPORT = "export.json"
MARKER = "_unfinished.json"
_THREADS = 8
_MOST_PENDING = 32


class Destination:
    """Writer of an export's files.

    Args:
        storage: storage of the export's folder.
        scratch: local folder for files that grow until they are whole.
    """

    def __init__(self, storage: Storage, scratch: Path) -> None:
        self.storage = storage
        self._scratch = scratch
        self._num_files = 0
        self._pool = ThreadPoolExecutor(_THREADS)
        self._pending: deque[Future[None]] = deque()

    def write(self, path: str, data: bytes) -> None:
        """Writes a file soon; an error rises at a later call."""
        self._pending.append(self._pool.submit(self.storage.write, path, data))
        while len(self._pending) > _MOST_PENDING:
            self._pending.popleft().result()

    def scratch_file(self) -> Path:
        """Returns the path of a new local file, which `take` moves to its place."""
        self._num_files += 1
        return self._scratch / str(self._num_files)

    def take(self, file: Path, path: str) -> None:
        """Writes the content of a local file to its place, and removes the file."""
        self.storage.upload(path, file)
        file.unlink()

    def close(self) -> None:
        """Waits until every file is written."""
        while self._pending:
            self._pending.popleft().result()
        self._pool.shutdown()


@contextmanager
def open_destination(uri: str) -> Generator[Destination]:
    """Opens an empty folder for an export; what a killed export left there is removed.

    Raises:
        UsageError: no folder can be there, or something else is in it.
    """
    uri = normalise(uri)
    check_folder(uri)
    check_writable(uri)
    storage = Storage(uri)
    with first_contact(uri):
        _empty(storage)
    write_json(storage, MARKER, {"what": "an export that is under way, or was killed"})
    with tempfile.TemporaryDirectory(prefix="overpaint-export-") as scratch:
        destination = Destination(storage, Path(scratch))
        try:
            yield destination
        finally:
            destination.close()


def write_json(storage: Storage, path: str, value: Mapping[str, Any]) -> None:
    """Writes a JSON file in one step."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    storage.write(path, text.encode())


def _empty(storage: Storage) -> None:
    paths = [path for paths in storage.walk() for path in paths if not is_clutter(path)]
    if not paths:
        return
    if EXPORT in paths:
        raise UsageError(f"{storage.uri}: an export is there already; name another folder")
    if MARKER not in paths:
        raise UsageError(f"{storage.uri}: the folder is not empty; name one that is, or a new one")
    storage.remove(path for path in paths if path != MARKER)
    storage.remove_leftovers()
