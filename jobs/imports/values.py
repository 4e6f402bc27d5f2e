"""Checked values of benchmarks' files: errors say the file, the row and what would be right."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from overpaint.pipeline.errors import UsageError, near_miss


def read_json(file: Path) -> Any:
    """Reads a JSON file.

    Raises:
        UsageError: the file is not JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{file}: not JSON: {error}") from error


def entry_of(value: Any, place: str) -> Mapping[str, Any]:
    """Returns a value that has to be a JSON object.

    Raises:
        UsageError: it is another kind of value.
    """
    if isinstance(value, dict):
        return value
    raise UsageError(f"{place}: {_shown(value)} stands where an object of the row's fields should")


def text_of(entry: Mapping[str, Any], field: str, place: str) -> str:
    """Returns a field that has to be a text, without white space around it.

    Raises:
        UsageError: it is missing, empty, or no text.
    """
    if field not in entry:
        raise UsageError(f"{place}: no field {field!r}: {near_miss(field, map(str, entry))}")
    value = entry[field]
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise UsageError(f"{place}: {field} = {_shown(value)}: it should be a text")


def picture_at(folder: Path, path: str, place: str) -> Path:
    """Returns the file of a picture.

    Args:
        folder: folder of the benchmark's pictures.
        path: path in that folder.
        place: place of the row.

    Raises:
        UsageError: there is no such file, or the path leads out of the folder.
    """
    file = folder / path
    if not file.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{place}: the picture {path!r} is outside of {folder}")
    if not file.is_file():
        raise UsageError(f"{place}: there is no picture {file}")
    return file


def _shown(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= 60 else f"{words[:57]}..."
