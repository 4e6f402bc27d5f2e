"""Exports as their trainers see them: files, pictures, and what is lost on the way.

A format's rule yields the examples that a trainer would see, and a sentence for each that it would
drop, cut or misread.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from overpaint.jobs.export.destination import EXPORT
from overpaint.jobs.export.pictures import is_marked
from overpaint.jobs.export.threads import in_threads
from overpaint.pipeline.errors import RowError, UsageError
from overpaint.pipeline.images import open_image
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.storage.checks import first_contact
from overpaint.pipeline.storage.parquet import read_schema
from overpaint.pipeline.storage.store import Storage, open_uri
from overpaint.pipeline.storage.uris import is_absolute


class Seen(NamedTuple):
    """An example that a trainer sees.

    Attributes:
        split: name of its split.
        name: name of the example.
    """

    split: str
    name: str


class Fault(NamedTuple):
    """Something that a trainer would drop, cut or misread.

    Attributes:
        sentence: what is wrong, and what a trainer would do.
        split: name of the split of the example at fault; empty where the fault is not of one.
        name: name of the example at fault; empty where the fault is not of one.
    """

    sentence: str
    split: str = ""
    name: str = ""


Finding = Seen | Fault


def finding(fault: str | None, split: str, name: str) -> Finding:
    """Returns that an example is seen, or its fault where it has one."""
    return Seen(split, name) if fault is None else Fault(fault, split, name)


@dataclass(frozen=True, slots=True)
class Exported:
    """An export.

    Attributes:
        storage: storage of its folder.
        facts: content of its `export.json`.
    """

    storage: Storage
    facts: Mapping[str, Any]

    @classmethod
    def find(cls, uri: str) -> "Exported | None":
        """Opens the export at a URI; returns None where there is none.

        Raises:
            UsageError: `export.json` is not an export's.
        """
        storage = RunFolder.at(uri).storage
        with first_contact(storage.uri):
            try:
                data = storage.read(EXPORT)
            except (FileNotFoundError, IsADirectoryError):
                return None
        try:
            facts: Any = json.loads(data)
            _ = facts["format"], facts["splits"], facts["image_format"]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{storage.at(EXPORT)}: not the record of an export") from error
        return cls(storage, facts)

    @property
    def splits(self) -> dict[str, int]:
        """The number of examples that were written, by split; empty splits are left out."""
        return {name: number for name, number in self.facts["splits"].items() if number}

    @property
    def suffix(self) -> str:
        """The ending of the export's pictures, with its dot."""
        return f".{self.facts['image_format']}"

    @property
    def is_reversed(self) -> bool:
        """True where examples lead from the edited image back to the source."""
        return bool(self.facts.get("reverse"))

    def read(self, path: str) -> bytes | None:
        """Reads a file of the export; returns None where there is none.

        A path that leads out of the export's folder is none.
        """
        if is_absolute(path) or ".." in path.split("/"):
            return None
        try:
            return self.storage.read(path)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None

    def names(self, folder: str) -> list[str]:
        """Returns the names of the files right in a folder, sorted."""
        paths = (path.rpartition("/") for path in self.storage.list(folder))
        return sorted(name for parent, _, name in paths if parent == folder)

    def json_lines(self, path: str) -> Iterator[Any]:
        """Yields the values in a file of one JSON value a line; a broken line is None."""
        if self.storage.exists(path):
            with open_uri(self.storage.at(path)) as file:
                yield from (_json(line) for line in file if line.strip())

    def json_list(self, path: str) -> list[Any] | None:
        """Reads a file of one JSON list; returns None where there is none."""
        data = self.read(path)
        value = None if data is None else _json(data)
        return value if isinstance(value, list) else None

    def tables(self, path: str, columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        """Yields the rows of a Parquet file, a few at a time."""
        with open_uri(self.storage.at(path)) as file:
            read_schema(file)  # refuses what would be unpickled
            for batch in pq.ParquetFile(file).iter_batches(64, columns=list(columns)):
                yield batch.to_pylist()

    def schema(self, path: str) -> pa.Schema:
        """Reads the columns of a Parquet file."""
        with open_uri(self.storage.at(path)) as file:
            return read_schema(file)

    def each(self, calls: Iterable[Callable[[], Finding]]) -> Iterator[Finding]:
        """Yields what calls find, several of which read at a time."""
        return in_threads(calls)


def _json(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def size_of(data: bytes | None) -> tuple[int, int] | None:
    """Returns the width and height of an encoded picture; None where it cannot be read."""
    try:
        return open_image(data or b"").size
    except RowError:
        return None


def unfit(
    source: bytes | None,
    target: bytes | None,
    *,
    key: str = "",
    is_reversed: bool = False,
    words: tuple[str, str] = ("source", "target"),
) -> str | None:
    """Returns why a trainer cannot learn from two pictures; None where it can.

    Args:
        source: file of the picture before the change; None where it is missing.
        target: file of the picture after it; None where it is missing.
        key: key of the row whose edit one of them is; empty where that is not known.
        is_reversed: whether the source is the edited image.
        words: names of both pictures in the format.
    """
    before, after = size_of(source), size_of(target)
    for word, data, size in ((words[0], source, before), (words[1], target, after)):
        if size is None:
            return f"{word} is missing" if data is None else f"{word} is no picture"
    assert source is not None
    assert target is not None
    assert before is not None
    assert after is not None
    if not _is_same_aspect(before, after):
        return (
            f"{words[0]} has {before[0]}x{before[1]} px and {words[1]} {after[0]}x{after[1]}: "
            "of unequal proportions, they would be cut or squashed apart"
        )
    edited, other = (source, target) if is_reversed else (target, source)
    if key and is_marked(other, key) and not is_marked(edited, key):
        return f"{words[0]} and {words[1]} are swapped: the edited image is on the wrong side"
    return None


def _is_same_aspect(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Tells whether two sizes have the same proportions, but for a pixel."""
    return abs(one[0] * other[1] - one[1] * other[0]) <= max(*one, *other)


def wrong_text(value: Any, word: str) -> str | None:
    """Returns why a trainer cannot read a caption; None where it can."""
    if isinstance(value, list):
        return f"{word} is a list where one text is read"
    if not isinstance(value, str) or not value.strip():
        return f"{word} is missing"
    return None
