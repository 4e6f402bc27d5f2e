"""Files of a table in a folder: a table by itself, parts of one, or a dataset that was saved there.

Of a folder of several kinds of tables one is read, and the others are told to be left out. Folders
named `name=value` within it are columns of the rows below them, as texts.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.runs.listings import Listing
from overpaint.pipeline.storage.store import Storage
from overpaint.pipeline.tables.tables import TABLE_SUFFIXES, ending_of

ROWS_FILE = "rows.jsonl"
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_SPLITS, _STATE = "dataset_dict.json", "state.json"


@dataclass(frozen=True, slots=True)
class TableFiles:
    """Files of a table.

    Attributes:
        folder: folder or prefix of the files.
        paths: their paths in it, in order.
        constants: columns that are equal in all rows of a file, one mapping for each.
        notes: sentences on what is left out.
    """

    folder: str
    paths: tuple[str, ...]
    constants: tuple[Mapping[str, str | None], ...]
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that are equal in all rows of a file."""
        return tuple(self.constants[0])


def one_file(folder: str, path: str) -> TableFiles:
    """Returns a table that is in one file."""
    return TableFiles(folder, (path,), ({},))


def saved_dataset(folder: str) -> TableFiles | None:
    """Returns the files of a dataset that `save_to_disk` of `datasets` has written to a folder.

    Several splits are one table, whose column `split` tells them apart.

    Raises:
        UsageError: the folder says that there are files which it does not list.
    """
    storage = Storage(folder)
    splits = _json(storage, _SPLITS)
    if splits is None:
        paths = _shards(storage, "")
        return TableFiles(folder, tuple(paths), tuple({} for _ in paths)) if paths else None
    found = [(path, {"split": name}) for name in splits["splits"] for path in _split(storage, name)]
    return TableFiles(folder, tuple(p for p, _ in found), tuple(values for _, values in found))


def _split(storage: Storage, name: str) -> list[str]:
    paths = _shards(storage, f"{name}/")
    if paths is None:
        raise UsageError(f"{storage.at(name)}: the dataset has no such split: {_STATE} is missing")
    return paths


def _shards(storage: Storage, prefix: str) -> list[str] | None:
    state = _json(storage, prefix + _STATE)
    if not isinstance(state, dict) or "_data_files" not in state:
        return None
    try:
        return [prefix + str(file["filename"]) for file in state["_data_files"]]
    except (TypeError, KeyError) as error:
        raise UsageError(f"{storage.at(prefix + _STATE)}: it names no data files") from error


def _json(storage: Storage, path: str) -> Any | None:
    try:
        return json.loads(storage.read(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise UsageError(f"{storage.at(path)}: it is not JSON: {error}") from error


def listed_parts(folder: str, listing: Listing) -> TableFiles | None:
    """Returns the parts of a table among the files of a folder; None for a folder of images."""
    by_ending = {suffix: [p for p in listing.tables if ending_of(p) == suffix] for suffix in _KINDS}
    kind = next((suffix for suffix in _KINDS if by_ending[suffix]), None)
    if listing.images or kind is None:
        return None
    paths = by_ending[kind]
    constants = [_partition(path) for path in paths]
    for path, values in zip(paths, constants, strict=True):
        if values.keys() != constants[0].keys():
            raise UsageError(
                f"{folder}: folders of {path} and {paths[0]} name different columns: "
                f"{', '.join(values) or 'none'} and {', '.join(constants[0]) or 'none'}"
            )
    left_out = listing.without(Counter({kind: len(paths)})).left_out()
    notes = [f"{len(paths)} {kind} files; left out: {left_out}"] if left_out else []
    return TableFiles(folder, tuple(paths), tuple(constants), tuple(notes))


_KINDS: Sequence[str] = TABLE_SUFFIXES


def _partition(path: str) -> dict[str, str | None]:
    values: dict[str, str | None] = {}
    for part in path.split("/")[:-1]:
        name, mark, value = part.partition("=")
        if mark and name:
            values[unquote(name)] = None if value == _NO_VALUE else unquote(value)
    return values
