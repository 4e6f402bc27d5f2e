"""Formats that are one table of pictures and words, which diffusers' scripts read by columns."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pyarrow as pa
from overpaint.jobs.export.example import Example
from overpaint.jobs.export.exported import Exported, Fault, Finding, finding, unfit, wrong_text
from overpaint.jobs.export.format import Format, Target
from overpaint.jobs.export.tables import (
    IMAGE,
    Shards,
    cell,
    features_of,
    image,
    text,
    with_features,
)
from overpaint.jobs.export.text_files import BySplit

MASK = "mask_image"


class ImageTable(Format):
    """A layout of one table, with the pictures in it.

    Attributes:
        own: names of the format's own columns in the order in which scripts that are told none
            take them.
        source: name of the column of source pictures.
        target: name of the column of target pictures.
        caption: name of the column of words.
    """

    own: ClassVar[tuple[str, str, str]]
    source: ClassVar[str]
    target: ClassVar[str]
    caption: ClassVar[str]
    data_files: ClassVar[str | None] = "data/{split}-*.parquet"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        columns = [text(name) if name == self.caption else image(name) for name in self.own]
        schema = with_features([*columns, image(MASK), *self.fields])
        self._shards = BySplit(
            lambda split: Shards(self.destination, f"data/{split}-{{number:05d}}.parquet", schema)
        )

    def add(self, example: Example) -> None:
        """Adds a row to the table of the example's split."""
        pictures = {
            self.source: (example.source.data, self.suffix),
            self.target: (example.winner.picture.data, self.suffix),
            MASK: (example.mask, ".png"),
        }
        cells = {
            name: cell(data, f"{example.name}{suffix}") for name, (data, suffix) in pictures.items()
        }
        row = {**example.cells, **cells, self.caption: example.caption}
        self._shards.of(example.split).add(row, sum(len(data) for data, _ in pictures.values()))

    def close(self) -> None:
        """Writes the last file of each split."""
        self._shards.close()

    @classmethod
    @abstractmethod
    def command(cls) -> str:
        """Returns the arguments of the script that reads the table."""

    @classmethod
    def usage(cls, facts: Mapping[str, Any]) -> str:
        """Returns the words that say how the table is loaded."""
        del facts
        return (
            "    from datasets import load_dataset\n"
            '    pairs = load_dataset("FOLDER")  # this folder\n\n'
            f"diffusers: `{cls.command()}`.\n\n"
            f"`{cls.source}` is the picture before the change, `{cls.target}` the one after it, "
            f"`{cls.caption}` the instruction."
        )

    @classmethod
    def findings(cls, exported: Exported) -> Iterator[Finding]:
        """Yields what `datasets` and diffusers' script make of each row."""
        for split in exported.splits:
            for path in exported.storage.list("data"):
                if path.startswith(f"data/{split}-") and path.endswith(".parquet"):
                    faults = list(cls._faults_of_columns(exported.schema(path), path))
                    yield from faults or cls._rows(exported, split, path)

    @classmethod
    def _faults_of_columns(cls, schema: pa.Schema, path: str) -> Iterator[Fault]:
        if tuple(schema.names[:3]) != cls.own:
            yield Fault(
                f"{path}: its first columns are {', '.join(schema.names[:3])}; a script that is "
                f"told no names takes them for {', '.join(cls.own)}"
            )
        features = features_of(schema) or {}
        for name in cls.own:
            wanted: Any = pa.string() if name == cls.caption else IMAGE
            if name not in schema.names:
                yield Fault(f"{path}: there is no column {name}")
            elif schema.field(name).type != wanted:
                found = schema.field(name).type
                yield Fault(f"{path}: {name} is {found}; datasets needs {wanted}")
            elif wanted == IMAGE and features.get(name, {}).get("_type") != "Image":
                yield Fault(
                    f"{path}: its metadata does not say that {name} has pictures; datasets would "
                    "give dictionaries"
                )

    @classmethod
    def _rows(cls, exported: Exported, split: str, path: str) -> Iterator[Finding]:
        has_key = "key" in exported.schema(path).names
        for rows in exported.tables(path, [*cls.own, *(["key"] if has_key else [])]):
            for row in rows:
                yield cls._row(row, split, is_reversed=exported.is_reversed)

    @classmethod
    def _row(cls, row: Mapping[str, Any], split: str, *, is_reversed: bool) -> Finding:
        key = row.get("key") or ""
        before, after = ((row[name] or {}).get("bytes") for name in (cls.source, cls.target))
        fault = wrong_text(row[cls.caption], cls.caption) or unfit(
            before, after, key=key, is_reversed=is_reversed, words=(cls.source, cls.target)
        )
        return finding(fault, split, key)
