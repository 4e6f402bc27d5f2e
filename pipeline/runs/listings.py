"""Folders and prefixes of images, with an account of what is left out.

Every format that can be decoded is taken. Hidden files and folders are not, nor those that systems
make beside them; linked folders are, once each. An entry that cannot be looked at is left out and
counted, whatever its error is.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from overpaint.pipeline.image_formats import IMAGE_SUFFIXES, KNOWN_UNREAD
from overpaint.pipeline.storage.retries import retry_transient
from overpaint.pipeline.storage.store import bare_path, filesystem
from overpaint.pipeline.storage.uris import is_local, join
from overpaint.pipeline.tables.tables import is_table

_SUFFIXES = frozenset(IMAGE_SUFFIXES)
_SYSTEM_FOLDERS = ("@eaDir", "__MACOSX")
"""Folders of previews and attributes, as network disks and archives of macOS have them."""
_METADATA = "metadata"
"""Name, but for its ending, of the table that datasets of the hub have beside their images."""
_APART = {
    "hidden": ("hidden", "hidden"),
    "in hidden folder": ("in a hidden folder", "in hidden folders"),
    "dead link": ("link that leads nowhere", "links that lead nowhere"),
    "link above": ("link to a folder above", "links to folders above"),
    "link again": ("link to a folder listed already", "links to folders listed already"),
    "closed folder": ("folder that cannot be read", "folders that cannot be read"),
    "no file": ("entry that is no file", "entries that are no files"),
}
"""Reasons to leave an entry out, as one and as several of them are told."""
_NUM_THREADS = 16
_NUM_NAMED = 3


@dataclass(slots=True)
class Listing:
    """Files below a folder or prefix, by their paths relative to it.

    Attributes:
        images: files that can be decoded by their endings.
        tables: files with the ending of a table.
        unread: numbers of pictures that cannot be decoded, by ending.
        others: numbers of other files, by ending.
        apart: numbers of entries that are left out for another reason, by the reason.
        not_text: names of pictures that are not UTF-8 text.
        num_captions: text files that have the name of an image beside them.
    """

    images: list[str] = field(default_factory=list[str])
    tables: list[str] = field(default_factory=list[str])
    unread: Counter[str] = field(default_factory=Counter[str])
    others: Counter[str] = field(default_factory=Counter[str])
    apart: Counter[str] = field(default_factory=Counter[str])
    not_text: list[str] = field(default_factory=list[str])
    num_captions: int = 0

    @property
    def metadata(self) -> str | None:
        """The table of the images, as datasets of the hub have it; None where there is none."""
        return next((path for path in self.tables if PurePosixPath(path).stem == _METADATA), None)

    def add(self, folder: str, names: Iterable[str], *, hidden: bool) -> None:
        """Adds the files right in a folder.

        Args:
            folder: path of the folder, with a slash at its end; empty for the top.
            names: names of the files.
            hidden: whether the folder, or one above it, is hidden.
        """
        stems, texts = set[str](), list[str]()
        for name in names:
            stem, suffix = _split(name)
            if hidden or name.startswith("."):
                if suffix in _SUFFIXES:
                    self.apart["in hidden folder" if hidden else "hidden"] += 1
            elif suffix in _SUFFIXES:
                stems.add(stem)
                self._add_image(folder + name)
            else:
                self._add_other(folder + name, suffix)
                if suffix == ".txt":
                    texts.append(stem)
        self.num_captions += sum(stem in stems for stem in texts)

    def _add_image(self, path: str) -> None:
        try:
            path.encode()
        except UnicodeEncodeError:
            self.not_text.append(path.encode(errors="backslashreplace").decode())
        else:
            self.images.append(path)

    def _add_other(self, path: str, suffix: str) -> None:
        if suffix in KNOWN_UNREAD:
            self.unread[suffix] += 1
            return
        self.others[suffix or "no ending"] += 1
        if is_table(path):
            self.tables.append(path)

    def without(self, taken: Counter[str]) -> "Listing":
        """Returns the listing without some files that are no pictures, by ending."""
        return replace(self, others=self.others - taken)

    def left_out(self) -> str:
        """Returns in words what is left out; an empty text where nothing is."""
        words = [f"{n} {suffix} ({KNOWN_UNREAD[suffix]})" for suffix, n in _ordered(self.unread)]
        words += [f"{n} {_APART[reason][n > 1]}" for reason, n in _ordered(self.apart)]
        if self.not_text:
            words.append(
                f"{len(self.not_text)} whose name is not UTF-8 text; rename it "
                f"({', '.join(self.not_text[:_NUM_NAMED])})"
            )
        if total := self.others.total():
            counts = _ordered(self.others)
            named = [f"{n} {suffix}" for suffix, n in counts[:_NUM_NAMED]]
            more = ["..."] if len(counts) > _NUM_NAMED else []
            noun = "other file" if total == 1 else "other files"
            words.append(f"{total} {noun} ({', '.join([*named, *more])})")
        return ", ".join(words)


def _split(name: str) -> tuple[str, str]:
    """Splits the name of a file into its stem and its ending, lower-case, with the dot."""
    stem, dot, ending = name.rpartition(".")
    return (stem, f"{dot}{ending.lower()}") if stem else (name, "")


def _ordered(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def list_files(uri: str) -> Listing:
    """Lists the files below a local folder, or a prefix of a store.

    Raises:
        PermissionError: the folder or prefix itself may not be read.
    """
    listing = _LocalWalk(uri).run() if is_local(uri) else _list_remote(uri)
    listing.images.sort()
    listing.tables.sort()
    return listing


def is_hidden(name: str) -> bool:
    """Tells whether a folder is hidden, or made by a system for itself."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS


@dataclass(frozen=True, slots=True)
class _Folder:
    """Folder on the way of a walk.

    Attributes:
        path: path from the top, with a slash at its end; empty for the top.
        real: path without links.
        hidden: whether it, or a folder above it, is hidden.
    """

    path: str
    real: str
    hidden: bool = False


class _LocalWalk:
    """Walk through a folder, then through the folders that links in it lead to.

    Folders that are there in their own place go before links to them, and of several links the
    first by its path is followed. A link to a folder above would lead in circles.
    """

    def __init__(self, root: str) -> None:
        real = os.path.realpath(root)
        self._listing = Listing()
        self._root = root
        self._above = {real, *_parents(real)}
        self._seen = set[str]()
        self._links = list[str]()
        self._top = _Folder("", real)

    def run(self) -> Listing:
        """Returns the files."""
        self._walk(self._top)
        while self._links:
            links, self._links = sorted(self._links), []
            for path in links:
                self._follow(path)
        return self._listing

    def _follow(self, path: str) -> None:
        real = os.path.realpath(join(self._root, path))
        if real in self._above:
            self._listing.apart["link above"] += 1
        elif real in self._seen:
            self._listing.apart["link again"] += 1
        else:
            self._walk(_Folder(f"{path}/", real))

    def _walk(self, start: _Folder) -> None:
        pending = [start]
        while pending:
            folder = pending.pop()
            if folder.real in self._seen:
                continue
            self._seen.add(folder.real)
            try:
                with os.scandir(join(self._root, folder.path)) as entries:
                    pending += self._add(folder, list(entries))
            except OSError:
                if folder is self._top:
                    raise
                self._listing.apart["closed folder"] += 1

    def _add(self, folder: _Folder, entries: list[os.DirEntry[str]]) -> list[_Folder]:
        """Adds the files of a folder and keeps the links to folders; returns the folders in it."""
        folders, names = list[_Folder](), list[str]()
        for entry in entries:
            kind = _kind(entry)
            hidden = folder.hidden or is_hidden(entry.name)
            if kind == "file":
                names.append(entry.name)
            elif kind == "folder":
                path = f"{folder.path}{entry.name}/"
                folders.append(_Folder(path, f"{folder.real}/{entry.name}", hidden))
            elif not hidden and kind == "link":
                self._links.append(folder.path + entry.name)
            elif not hidden:
                self._listing.apart[kind] += 1
        self._listing.add(folder.path, names, hidden=folder.hidden)
        return folders


def _kind(entry: os.DirEntry[str]) -> str:
    """Returns file, folder, link (to a folder), or a word of `_APART`."""
    try:
        if entry.is_file():
            return "file"
        if entry.is_dir():
            return "link" if entry.is_symlink() else "folder"
        return "dead link" if entry.is_symlink() and not os.path.exists(entry.path) else "no file"  # noqa: PTH110
    except OSError:
        return "dead link"


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) or "/" for end in range(1, len(parts))]


def _list_remote(uri: str) -> Listing:
    listing, folders = Listing(), defaultdict[str, list[str]](list)
    for path in _remote_paths(uri):
        folder, _, name = path.rpartition("/")
        if name:
            folders[folder].append(name)
    for folder, names in folders.items():
        hidden = any(is_hidden(part) for part in folder.split("/"))
        listing.add(f"{folder}/" if folder else "", names, hidden=hidden)
    return listing


@retry_transient
def _remote_paths(uri: str) -> list[str]:
    """Lists a prefix, several of the folders at its top at a time."""
    fs = filesystem(uri)
    top: list[dict[str, Any]] = fs.ls(uri, detail=True)
    folders = [entry["name"] for entry in top if entry["type"] == "directory"]
    names = [entry["name"] for entry in top if entry["type"] == "file"]
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        for below in pool.map(fs.find, folders):
            names.extend(below)
    start = len(bare_path(uri)) + 1
    return [name[start:] for name in names]
