"""Formats of exports: the layout of examples, and the rule by which its trainer reads them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
from overpaint.jobs.export.choice import Kind
from overpaint.jobs.export.destination import Destination
from overpaint.jobs.export.example import Example
from overpaint.jobs.export.exported import Exported, Finding
from overpaint.pipeline.images import FORMATS as IMAGE_FORMATS


@dataclass(frozen=True, slots=True)
class Target:
    """Place that a format writes to, and the form of what it writes.

    Attributes:
        destination: writer of files.
        suffix: ending of pictures, with its dot.
        fields: columns that tables carry beside the format's own.
    """

    destination: Destination
    suffix: str
    fields: Sequence["pa.Field[Any]"]


class Format(ABC):
    """A layout of examples that some trainers load.

    One module of `overpaint.jobs.export.formats` holds one, and is its name. A value writes one
    export: `add` for each example, in order, and then `close`. Names of files are made of the
    example's name, and bytes follow from the examples alone.

    Attributes:
        makes: what the export is made of.
        takes_references: whether there is a place for pictures beside the source.
        image_formats: formats of pictures that its trainers read there.
        needs_splits: names of splits that its trainers ask for.
        data_files: pattern of a split's files for `datasets`, with `{split}` in it; None where
            another library loads them.

    Args:
        target: what is written to.
    """

    makes: ClassVar[Kind] = "pairs"
    takes_references: ClassVar[bool] = False
    image_formats: ClassVar[tuple[str, ...]] = tuple(IMAGE_FORMATS)
    needs_splits: ClassVar[tuple[str, ...]] = ()
    data_files: ClassVar[str | None] = None

    def __init__(self, target: Target) -> None:
        self.destination = target.destination
        self.suffix = target.suffix
        self.fields = target.fields

    @abstractmethod
    def add(self, example: Example) -> None:
        """Writes one example."""

    @abstractmethod
    def close(self) -> None:
        """Writes what is still held back."""

    @classmethod
    @abstractmethod
    def usage(cls, facts: Mapping[str, Any]) -> str:
        """Returns the words of the card that say how the export is loaded.

        Args:
            facts: content of `export.json`.
        """

    @classmethod
    @abstractmethod
    def findings(cls, exported: Exported) -> Iterator[Finding]:
        """Yields each example that a trainer sees, and what it would drop, cut or misread."""
