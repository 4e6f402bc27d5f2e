"""The contract of a benchmark's reader: a folder as it is published becomes rows."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from overpaint.pipeline.images.picture import Pixels

Value = str | bool | None
"""Value of a column of an imported table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkRow:
    """One edit that a benchmark asks for.

    Attributes:
        place: place of the row in the benchmark's files, for error messages.
        image: the source: a file, or the bytes of one.
        values: values of the benchmark's `columns`, by name; those that are left out are null.
        mask: uint8 HW, 255 where the edit belongs; None where the row has none.
    """

    place: str
    image: Path | bytes
    values: Mapping[str, Value]
    mask: Pixels | None = None


class Benchmark(ABC):
    """Reader of one benchmark's layout.

    One module of `overpaint.jobs.imports.benchmarks` holds one, and is its name; a user's own is
    `my_package.module:ClassName`.

    Attributes:
        title: name of the benchmark.
        columns: columns of its rows beside `source_uri` and `mask_uri`; those that a run reads have
            the names that it reads. `task` is the benchmark's own name for a group of edits.
        has_masks: whether rows may have masks.

    Example:
        >>> from overpaint.jobs.imports.benchmarks import BENCHMARKS
        >>> rows = BENCHMARKS.find("editeval")().rows(Path("EditEval_v1/Dataset"))
        >>> next(rows).values["instruction"]
        'Add a red car on the deserted highway'
    """

    title: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    has_masks: ClassVar[bool] = False

    @abstractmethod
    def rows(self, folder: Path) -> Iterator[BenchmarkRow]:
        """Yields the rows of a benchmark, in its order.

        Args:
            folder: folder as the benchmark's authors publish it.

        Raises:
            UsageError: the folder is another's, or a row is not what it should be.
        """
