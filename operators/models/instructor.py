"""An instructor: a frozen value that reads edit instructions.

Each module of `operators/instructors` holds one. An `Instructor` answers rows without a model of
its actor; a `BatchInstructor` has a model there, which sees full batches.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, NamedTuple

from overpaint.operators.measures.readings import Reading
from overpaint.operators.models.uses_checkpoint import CheckpointFields
from overpaint.operators.models.weights import Checkpoint, DtypeName
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.operator import Calls
from overpaint.pipeline.variant import Variant


class Instruction(NamedTuple):
    """An instruction and what the source shows.

    Attributes:
        text: the instruction.
        caption: source prompt or caption of the source; None where the row has neither.
        row: the row, with the instructor's own columns.
    """

    text: str
    caption: str | None
    row: Row


class Reader(Variant, ABC):
    """A way of reading instructions."""

    family: ClassVar[str] = "F18"
    """Mechanism of the survey that it belongs to, F01 to F18."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The columns that it needs beside the instruction."""
        return ()

    @property
    def optional(self) -> tuple[Column, ...]:
        """The columns that it uses where the plan has them."""
        return ()

    def check(self) -> None:
        """Checks that what it needs is there.

        Raises:
            ValueError: something is missing.
        """

    def revisions(self) -> dict[str, str]:
        """Returns the exact weights of its models."""
        return {}

    def bucket(self, row: Row) -> Hashable:
        """Returns a value that is equal for rows that may share a call."""
        del row
        return None

    def load(self, dtype: DtypeName) -> Any:
        """Loads what it needs."""
        del dtype

    @classmethod
    def facts(cls) -> dict[str, str]:
        """Returns needs and papers of the instructor."""
        needs = ["instruction", *(column.name for column in cls().inputs)]
        return {"needs": ", ".join(needs), **super().facts(), "family": cls.family}


class Instructor(Reader):
    """A way of reading instructions without a model in the actor."""

    @abstractmethod
    def read(
        self, instructions: Sequence[Instruction], model: Any, calls: Calls
    ) -> Sequence[Reading | RowError]:
        """Reads each instruction.

        Args:
            instructions: one for each row.
            model: as `load` returned it.
            calls: calls steps beside the models of the actor.
        """


class BatchInstructor(Reader, CheckpointFields):
    """A way of reading instructions by a model in the actor."""

    part: ClassVar[str]
    """The papercut checkpoint that it uses."""

    def weights(self, dtype: DtypeName) -> Checkpoint:
        """Returns the checkpoint with its revision and number type."""
        return Checkpoint(name=self.checkpoint, part=self.part, revision=self.revision, dtype=dtype)

    def check(self) -> None:
        """Checks that the checkpoint is there."""
        self.weights("float32").check()

    def revisions(self) -> dict[str, str]:
        """Returns the exact weights."""
        return {"checkpoint": self.weights("float32").identity()}

    @abstractmethod
    def prepare(self, instruction: Instruction, model: Any) -> Any:
        """Returns what the model is to see of one instruction.

        Raises:
            RowError: it cannot be shown to the model.
        """

    @abstractmethod
    def infer(self, inputs: Sequence[Any], model: Any) -> Sequence[Any]:
        """Runs the model on a full batch; returns an output for each input."""

    @abstractmethod
    def reading(self, instruction: Instruction, input: Any, output: Any) -> Reading:
        """Returns the reading of one instruction.

        Args:
            instruction: as `prepare` had it.
            input: what `prepare` returned for it.
            output: what `infer` returned for it.
        """
