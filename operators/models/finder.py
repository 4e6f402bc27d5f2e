"""A mask finder: a frozen value that finds in each source the region that an edit may change.

Each module of `operators/finders` holds one. It declares its fields and columns; thresholds and
models are its own, while `mask` cleans and dilates every region in the same way.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from overpaint.operators.framing.masks import Region
from overpaint.operators.models.weights import DtypeName
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.variant import Variant


class Finding(NamedTuple):
    """A region of a source.

    Attributes:
        region: bool HW of the source's size; True may change.
        source: word for the column `mask_source`.
        columns: values of the finder's own columns, by name.
    """

    region: Region
    source: str
    columns: Mapping[str, Any] = {}


class Finder(Variant, ABC):
    """A way of finding masks."""

    family: ClassVar[str] = "F07"
    """Mechanism of the survey that it belongs to, F01 to F18."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The columns that it needs beside the source."""
        return ()

    @property
    def optional(self) -> tuple[Column, ...]:
        """The columns that it uses where the plan has them."""
        return ()

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The columns of its own that it adds beside the mask."""
        return ()

    @abstractmethod
    def check(self) -> None:
        """Checks that its models are there.

        Raises:
            ValueError: one of them is not.
        """

    @abstractmethod
    def revisions(self) -> dict[str, str]:
        """Returns the exact weights of its models."""

    def cost(self) -> Cost:
        """Returns the evaluations of an editor's networks for one row."""
        return Cost()

    def bucket(self, row: Row) -> Hashable:
        """Returns a value that is equal for rows that may share a call."""
        del row
        return None

    @abstractmethod
    def load(self, dtype: DtypeName) -> Any:
        """Loads its models."""

    @abstractmethod
    def prepare(self, row: Row) -> Any:
        """Returns what the models are to see of one row.

        Raises:
            RowError: the row does not say what to look for, or cannot be decoded.
        """

    @abstractmethod
    def find(self, inputs: Sequence[Any], model: Any, *, keep_largest: bool) -> Sequence[Any]:
        """Runs the models on a full batch; returns an output for each input.

        Args:
            inputs: as `prepare` returned them.
            model: as `load` returned it.
            keep_largest: whether only the largest part of a region counts.
        """

    @abstractmethod
    def finding(self, row: Row, search: Any, output: Any) -> Finding:
        """Returns the region of one row.

        Args:
            row: columns of the row.
            search: what `prepare` returned for it.
            output: what `find` returned for it.
        """

    @classmethod
    def facts(cls) -> dict[str, str]:
        """Returns needs and papers of the finder."""
        if any(field.is_required() for field in cls.model_fields.values()):
            return super().facts()
        finder = cls()
        needs = [column.name for column in (*finder.inputs, *finder.optional)]
        return {"needs": " or ".join(needs), **super().facts(), "family": cls.family}
