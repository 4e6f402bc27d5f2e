"""Text files that grow on the local disk until they are whole: lines of JSON, or one list."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from overpaint.jobs.export.destination import Destination


class Closing(Protocol):
    """A file that is written to its place when it is closed."""

    def close(self) -> None:
        """Writes the file to its place."""
        ...


W = TypeVar("W", bound=Closing)


class JsonLines:
    """A file of one JSON object a line.

    Args:
        destination: destination of the file.
        path: path of the file.
    """

    def __init__(self, destination: Destination, path: str) -> None:
        self._destination, self._path = destination, path
        self._file: Path = destination.scratch_file()
        self._text = self._file.open("w", encoding="utf-8")

    def add(self, value: Mapping[str, Any]) -> None:
        """Adds a line."""
        self._text.write(json.dumps(value, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Writes the file to its place."""
        self._text.close()
        self._destination.take(self._file, self._path)


class JsonList:
    """A file of one JSON list of objects.

    Args:
        destination: destination of the file.
        path: path of the file.
    """

    def __init__(self, destination: Destination, path: str) -> None:
        self._destination, self._path = destination, path
        self._file: Path = destination.scratch_file()
        self._text = self._file.open("w", encoding="utf-8")
        self._start = "[\n"

    def add(self, value: Mapping[str, Any]) -> None:
        """Adds an object."""
        self._text.write(self._start + json.dumps(value, ensure_ascii=False))
        self._start = ",\n"

    def close(self) -> None:
        """Writes the file to its place."""
        self._text.write("\n]\n" if self._start == ",\n" else "[]\n")
        self._text.close()
        self._destination.take(self._file, self._path)


class BySplit(Generic[W]):
    """One file for each split that has examples.

    Args:
        make: opens the file of a split.
    """

    def __init__(self, make: Callable[[str], W]) -> None:
        self._make = make
        self._files: dict[str, W] = {}

    def of(self, split: str) -> W:
        """Returns the file of a split."""
        if split not in self._files:
            self._files[split] = self._make(split)
        return self._files[split]

    def close(self) -> None:
        """Closes the files of all splits."""
        for file in self._files.values():
            file.close()
