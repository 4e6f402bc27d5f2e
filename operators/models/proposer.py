"""A proposer: a frozen value that writes edit instructions for sources.

Each module of `operators/proposers` holds one. A `Proposer` answers rows without a model of its
actor; a `BatchProposer` has a model there, which sees full batches.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from overpaint.operators.measures.proposals import Proposal
from overpaint.operators.models.instructor import Reader
from overpaint.operators.models.uses_checkpoint import CheckpointFields
from overpaint.operators.models.weights import Checkpoint, DtypeName
from overpaint.pipeline.columns import Row
from overpaint.pipeline.edit_types import EditType
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.operator import Calls
from pydantic import Field


class Wish(NamedTuple):
    """Source for which an edit is to be proposed.

    Attributes:
        row: row, with the proposer's own columns.
        caption: description of the source; None where the row has none.
        instruction: words of the user; None where the user gave none.
        edit_types: types that the edit may have, the preferred one first.
        seed: seed of the row's choices.
    """

    row: Row
    caption: str | None
    instruction: str | None
    edit_types: tuple[EditType, ...]
    seed: int


class WritesInstructions(Reader):
    """Way of writing instructions."""

    num_variants: int = Field(default=2, ge=0, le=10)
    """Other wordings of the instruction that are kept."""

    @classmethod
    def facts(cls) -> dict[str, str]:
        """Returns needs and papers of the proposer."""
        needs = [column.name for column in cls().inputs] or ["source_prompt or caption"]
        return {**super().facts(), "needs": ", ".join(needs)}


class Proposer(WritesInstructions):
    """Way of writing instructions without a model in the actor."""

    @abstractmethod
    def propose(
        self, wishes: Sequence[Wish], model: Any, calls: Calls
    ) -> Sequence[Proposal | RowError]:
        """Proposes an edit for each source.

        Args:
            wishes: one for each row.
            model: as `load` returned it.
            calls: calls steps beside the models of the actor.
        """


class BatchProposer(WritesInstructions, CheckpointFields):
    """Way of writing instructions by a model in the actor."""

    def weights(self, dtype: DtypeName) -> Checkpoint:
        """Returns the checkpoint with its revision and number type."""
        return Checkpoint(name=self.checkpoint, part="propose", revision=self.revision, dtype=dtype)

    def revisions(self) -> dict[str, str]:
        """Returns the exact weights."""
        return {"checkpoint": self.weights("float32").identity()}

    @abstractmethod
    def prepare(self, wish: Wish, model: Any) -> Any:
        """Returns what the model is to see of one wish.

        Raises:
            RowError: it cannot be shown to the model.
        """

    @abstractmethod
    def infer(self, inputs: Sequence[Any], model: Any) -> Sequence[Any]:
        """Runs the model on a full batch; returns an output for each input."""

    @abstractmethod
    def proposal(self, output: Any) -> Proposal:
        """Returns the proposal of one output."""
