"""Columns of an input's table: renamed, left out where they hold bytes, or pictures with addresses.

A table without a column of sources that has one column of pictures gives these; of several, `--map`
says which. A column of pictures that is given the name of a URI, such as `mask_uri`, gives
addresses too.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from overpaint.pipeline.columns import SOURCE_URI
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.tables.parquet import holds_bytes
from overpaint.pipeline.tables.parts import TablePart
from overpaint.pipeline.tables.pictures import (
    PictureFile,
    is_picture,
    is_picture_list,
    with_addresses,
)

_SOURCE = SOURCE_URI.name
_URIS = "_uri"
_REFERENCES = "references"
_MAX_TEXT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class PictureColumns:
    """Columns of a table, by what becomes of them.

    Attributes:
        pictures: new names of columns of pictures, which hold their addresses, by their own.
        mapping: new names of the other columns, by their own.
        left_out: columns of bytes that are not read.
        notes: sentences on both, for the user.
    """

    pictures: Mapping[str, str]
    mapping: Mapping[str, str]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        files: Sequence[PictureFile],
        constants: Collection[str],
        mapping: Mapping[str, str],
        with_bytes: Collection[str],
        keep: Collection[str],
        uri: str,
    ) -> "PictureColumns":
        """Sorts the columns of a table.

        Args:
            files: files of the table.
            constants: names of the columns that the paths of the files give.
            mapping: new names of columns, by their own, as the user gives them.
            with_bytes: columns that are read also if they hold bytes, by their new names.
            keep: columns of bytes that are carried along, by their own names.
            uri: URI of the table, named in errors.

        Raises:
            UsageError: an option names no column, or there is not one column of sources.
        """
        file = files[0]
        kinds = _kinds(files, constants)
        _check_options(kinds, mapping, keep, uri)
        names = {name: mapping.get(name, name) for name in kinds}
        pictures = {
            name: new
            for name, new in names.items()
            if _names_pictures(new) and _are_pictures(file, name, kinds[name])
        }
        if _SOURCE not in names.values() and (source := _only_pictures(kinds, pictures, uri)):
            pictures[source] = _SOURCE
        if _SOURCE not in {**names, **pictures}.values():
            hint = f"{near_miss(_SOURCE, kinds)}; --map NAME={_SOURCE} renames one"
            raise UsageError(f"{uri}: no column {_SOURCE}: {hint}")
        left_out = tuple(
            name
            for name, kind in kinds.items()
            if name not in pictures
            and holds_bytes(kind)
            and not (name in keep or names[name] in {_SOURCE, *with_bytes})
        )
        notes = (*_picture_notes(file, pictures), *map(_left_out_note, left_out))
        return cls(pictures, mapping, left_out, notes)

    def part(self, file: PictureFile) -> TablePart:
        """Returns the columns of a file that are read, with addresses in the place of pictures."""
        there = {old: new for old, new in self.pictures.items() if old in file.part.schema.names}
        sources = [old for old, new in there.items() if new == _SOURCE]
        part = with_addresses(file, there, sources[0] if sources else None) if there else file.part
        return part.selected([name for name in part.schema.names if name not in self.left_out])

    @property
    def renamed(self) -> dict[str, str]:
        """The new names of the columns that hold no pictures, by their own."""
        return {old: new for old, new in self.mapping.items() if old not in self.pictures}


def _kinds(files: Sequence[PictureFile], constants: Collection[str]) -> dict[str, Any]:
    """Returns the types of the columns, each of the first file that has values there."""
    kinds: dict[str, Any] = {}
    for column in (column for file in files for column in file.part.schema):
        if pa.types.is_null(kinds.get(column.name, pa.null())):
            kinds[column.name] = column.type
    return kinds | {name: pa.string() for name in constants if name not in kinds}


def _check_options(
    kinds: Mapping[str, Any], mapping: Mapping[str, str], keep: Collection[str], uri: str
) -> None:
    for option, given in (("--map", mapping), ("--keep", keep)):
        for name in given:
            if name not in kinds:
                raise UsageError(
                    f"{uri}: {option} {name}: no such column: {near_miss(name, kinds)}"
                )
    names = [mapping.get(name, name) for name in kinds]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{uri}: two columns are named {name!r}: --map NAME=OTHER renames one")


def _names_pictures(name: str) -> bool:
    return name.endswith(_URIS) or name == _REFERENCES


def is_text(kind: Any) -> bool:
    """Tells whether values of an Arrow type can be sources: texts, or bytes that may be texts."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return is_bytes or pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _are_pictures(file: PictureFile, name: str, kind: Any) -> bool:
    """Tells whether a column holds pictures; bytes may also be texts, such as URIs."""
    if pa.types.is_struct(kind) or is_picture_list(kind):
        return is_picture(kind) or is_picture_list(kind)
    return is_picture(kind) and not _begins_with_text(file, name)


def _begins_with_text(file: PictureFile, name: str) -> bool:
    for values in file.column(name):
        for value in values.drop_null().slice(0, 1).to_pylist():
            try:
                return len(value) <= _MAX_TEXT_BYTES and value.decode().isprintable()
            except UnicodeDecodeError:
                return False
    return True


def _only_pictures(kinds: Mapping[str, Any], taken: Collection[str], uri: str) -> str | None:
    """Returns the one column of pictures; None for none.

    Columns of `bytes` and `path` are pictures rather than columns of bytes alone, which may be
    anything.
    """
    columns = {n: k for n, k in kinds.items() if n not in taken}
    found = [n for n, k in columns.items() if is_picture(k) or is_picture_list(k)]
    named = [n for n in found if pa.types.is_struct(_element(columns[n]))]
    found = named or found
    if len(found) > 1:
        raise UsageError(
            f"{uri}: columns {', '.join(map(repr, found))} hold pictures: --map NAME={_SOURCE} "
            "says which are the sources"
        )
    return found[0] if found else None


def _element(kind: Any) -> Any:
    return kind.value_type if is_picture_list(kind) else kind


def _picture_notes(file: PictureFile, pictures: Mapping[str, str]) -> list[str]:
    return [
        f"column {name!r} holds pictures: {new} is the address of each, such as "
        f"{file.part.path}#{name}@0, or its path in a file without the bytes"
        for name, new in pictures.items()
    ]


def _left_out_note(name: str) -> str:
    return f"column {name!r} holds bytes and is left out; --keep {name} carries it along"
