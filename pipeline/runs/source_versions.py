"""Versions of a run's sources, by which one that was replaced under its own name is seen.

A version is a word that changes with the file: its ETag, or its size and time. It says that a
source must be looked at again, and no more: one that was only touched keeps its edits.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.storage.packed import file_of
from overpaint.pipeline.storage.retries import retry_transient
from overpaint.pipeline.storage.store import bare_path, filesystem
from overpaint.pipeline.storage.uris import is_local, join, local_path

SOURCES = "sources"
"""Folder of a run with the versions of its sources, part by part as the plan has its rows."""
_COLUMN = "source_version"
_FEW = 256
"""Number of sources that are asked for one by one; more are looked up in a listing."""
_NUM_THREADS = 16
_WEB = ("http://", "https://")


class Version(NamedTuple):
    """Version of a source.

    Attributes:
        word: changes with the file.
        modified_s: time of its last change, in seconds since the epoch; None where unknown.
    """

    word: str
    modified_s: float | None


class SourceVersions:
    """Looks up the versions of sources as they are now.

    Args:
        base_uri: folder or prefix that relative sources are relative to.
    """

    def __init__(self, base_uri: str) -> None:
        self._base_uri = base_uri
        self._listed: dict[str, Version] | None = None

    def of(self, sources: Sequence[str]) -> list[Version | None]:
        """Returns the version of each source; None of one that is absent or on the web.

        A source that is packed into a file with others has the version of that file.
        """
        files = {source: file_of(source) for source in dict.fromkeys(sources)}
        found = self._of_files(list(dict.fromkeys(files.values())))
        return [found.get(files[source]) for source in sources]

    def _of_files(self, files: Sequence[str]) -> dict[str, Version | None]:
        uris = {file: join(self._base_uri, file) for file in files}
        local = {source: _local_version(uri) for source, uri in uris.items() if is_local(uri)}
        remote = {s: u for s, u in uris.items() if s not in local and not u.startswith(_WEB)}
        return {**local, **self._remote(remote)}

    def _remote(self, uris: dict[str, str]) -> dict[str, Version | None]:
        if not uris:
            return {}
        if len(uris) > _FEW and not is_local(self._base_uri) and self._listed is None:
            self._listed = _listed(self._base_uri)
        listed = self._listed or {}
        paths = {source: bare_path(uri) for source, uri in uris.items()}
        found: dict[str, Version | None] = {s: listed.get(path) for s, path in paths.items()}
        others = [source for source in uris if found[source] is None]
        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            asked = pool.map(_asked, [uris[source] for source in others])
            found |= dict(zip(others, asked, strict=True))
        return found


def write_versions(folder: RunFolder, part: int, versions: Sequence[Version | None]) -> None:
    """Writes the versions of the sources of a plan part's rows, in the order of the rows."""
    _write(folder, part, [version.word if version else None for version in versions])


def repeat_versions(
    folder: RunFolder, part: int, sources: Sequence[str], more: Sequence[str]
) -> None:
    """Writes the versions of a plan part again that is to have more rows of its sources.

    Args:
        folder: run folder.
        part: number of the part.
        sources: sources of its rows.
        more: sources of the rows that it is to have, none of them new.
    """
    words = read_versions(folder, part, len(sources))
    if words is not None:
        known = dict(zip(sources, words, strict=True))
        _write(folder, part, [known[source] for source in more])


def _write(folder: RunFolder, part: int, words: Sequence[str | None]) -> None:
    folder.write_part(SOURCES, part, pa.table({_COLUMN: pa.array(words, pa.string())}))


def read_versions(folder: RunFolder, part: int, num_rows: int) -> list[str | None] | None:
    """Returns the versions that a plan part's sources had; None where they were not written.

    Args:
        folder: run folder.
        part: number of the part.
        num_rows: rows of the part; versions of more or fewer rows are of another plan.
    """
    try:
        versions = folder.read_part(SOURCES, part)[_COLUMN].to_pylist()
    except FileNotFoundError:
        return None
    return versions if len(versions) == num_rows else None


def _local_version(uri: str) -> Version | None:
    try:
        stat = local_path(uri).stat()
    except (OSError, ValueError):
        return None
    return Version(f"{stat.st_size}-{stat.st_mtime_ns}", stat.st_mtime)


@retry_transient
def _listed(uri: str) -> dict[str, Version]:
    """Lists a prefix: a request for a thousand objects, where one by one would be a thousand."""
    found: dict[str, dict[str, Any]] = filesystem(uri).find(uri, detail=True)
    return {path: _version(info) for path, info in found.items()}


@retry_transient
def _asked(uri: str) -> Version | None:
    try:
        return _version(filesystem(uri).info(uri))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None


def _version(info: dict[str, Any]) -> Version:
    modified = info.get("LastModified") or info.get("mtime") or info.get("updated")
    word = info.get("ETag") or info.get("etag") or f"{info.get('size')}-{modified}"
    seconds = modified.timestamp() if isinstance(modified, datetime) else None
    return Version(str(word).strip('"'), seconds)
