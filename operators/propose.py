"""`propose`: writes an edit instruction for a source, and what goes with it.

A proposer of `operators/proposers` writes: templates without a model, or a language or
vision-language model, here or hosted. The user's words, where the input has some, are kept beside
the proposed ones; which of them `instruction` has is said by `rewrite`.
"""

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, Literal

import pyarrow as pa
from overpaint.operators.measures.draws import Draws
from overpaint.operators.measures.proposals import Proposal
from overpaint.operators.models.proposer import BatchProposer, Proposer, Wish, WritesInstructions
from overpaint.operators.models.uses_checkpoint import TorchOperator
from overpaint.operators.proposers import PROPOSERS
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row, first_text
from overpaint.pipeline.edit_types import EDIT_TYPES, EditType
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.operator import (
    Answer,
    Calls,
    Kind,
    ModelOperator,
    NewColumns,
    Rejected,
)
from overpaint.pipeline.variant import VariantOperator
from pydantic import Field

PROPOSED_INSTRUCTION = Column(
    "proposed_instruction", pa.string(), "the instruction as it was proposed or rewritten"
)
INVERSE_INSTRUCTION = Column(
    "inverse_instruction", pa.string(), "the instruction that takes the edit back; null if unknown"
)
INSTRUCTION_VARIANTS = Column(
    "instruction_variants", pa.list_(pa.string()), "the instruction in other wordings"
)
PROPOSE_STATUS = Column(
    "propose_status",
    pa.string(),
    "ok, or why nothing is proposed: nothing, parse_error, refused, timeout, unreachable, "
    "busy, bad_request or over_budget",
)
PROPOSE_NOTE = Column("propose_note", pa.string(), "why nothing is proposed")

_GIVEN = {
    column.name: Column(f"in_{column.name}", column.type, column.doc)
    for column in (c.INSTRUCTION, c.TARGET_PROMPT, c.MASK_PHRASE, c.EDIT_TYPE)
}
"""Columns of the input that stand beside what is proposed."""


class Propose(TorchOperator[Any], VariantOperator[Any], ModelOperator[Any, Any, Any]):
    """Writes an instruction for each source, with target prompt, mask phrase and edit type."""

    kind: ClassVar[Kind] = "caption"
    variants = PROPOSERS
    default_method = "templates"

    edit_types: tuple[EditType, ...] = Field(default=EDIT_TYPES, min_length=1)
    """Types of edits that may be proposed; a row's own edit_type comes before them."""
    rewrite: bool = False
    """Whether the proposer's wording of the user's own instruction takes its place; both are kept,
    in in_instruction and proposed_instruction."""
    same_for: Literal["row", "source"] = "row"
    """`row` draws from the row's seed, so that candidates have instructions of their own; `source`
    gives all rows of a source one instruction, so that candidates compete."""
    on_nothing: Literal["reject", "null"] = "reject"
    """`reject` ends a row that has no instruction at all with the code nothing_proposed; `null`
    leaves its columns null."""

    @property
    def _proposer(self) -> WritesInstructions:
        assert isinstance(self.settings, WritesInstructions)
        return self.settings

    @property
    def _batched(self) -> BatchProposer:
        assert isinstance(self.settings, BatchProposer)
        return self.settings

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The seed, the source's group, and what the proposer needs."""
        return (c.SEED, c.GROUP_ID, *self._proposer.inputs)

    @property
    def optional(self) -> tuple[Column, ...]:
        """The words for the source, and the user's own words."""
        own = self._proposer.optional
        return (c.SOURCE_PROMPT, c.CAPTION, *own, *_GIVEN.values())

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The instruction and what goes with it, and the proposal itself."""
        return (
            *(c.INSTRUCTION, c.TARGET_PROMPT, c.MASK_PHRASE, c.EDIT_TYPE),
            *(PROPOSED_INSTRUCTION, INVERSE_INSTRUCTION, INSTRUCTION_VARIANTS),
            *(PROPOSE_STATUS, PROPOSE_NOTE),
        )

    def check(self) -> None:
        """Checks that what the proposer needs is there."""
        self._proposer.check()

    def revisions(self) -> dict[str, str]:
        """Returns the weights of the proposer's model."""
        return self._proposer.revisions()

    def bucket(self, row: Row) -> Hashable:
        """Returns what must agree in one call of the proposer."""
        return self._proposer.bucket(row)

    def load(self) -> Any:
        """Loads what the proposer needs."""
        return self._proposer.load(self.dtype)

    def run_by(self, rows: Sequence[Row], model: Any, calls: Calls) -> list[Answer]:
        """Proposes for each row; where the proposer has no model here, beside the models."""
        proposer = self._proposer
        if not isinstance(proposer, Proposer):
            return super().run_by(rows, model, calls)
        found = proposer.propose([self._wish(row) for row in rows], model, calls)
        return [
            each if isinstance(each, RowError) else self._columns(row, each)
            for row, each in zip(rows, found, strict=True)
        ]

    def prepare(self, row: Row, model: Any, /) -> Any:
        """Returns what the proposer's model is to see of a row."""
        return self._batched.prepare(self._wish(row), model)

    def infer(self, inputs: Sequence[Any], model: Any, /) -> Sequence[Any]:
        """Runs the proposer's model."""
        return self._batched.infer(inputs, model)

    def answer(self, row: Row, input: Any, output: Any, model: Any, /) -> NewColumns | Rejected:
        """Returns the columns of one row, or why there is no instruction."""
        del input, model
        return self._columns(row, self._batched.proposal(output))

    def _wish(self, row: Row) -> Wish:
        seed = int(row["group_id"], 16) if self.same_for == "source" else row["seed"]
        given = _given(row, c.EDIT_TYPE)
        others = Draws(seed).shuffled("edit type", self.edit_types)
        known: list[EditType] = [kind for kind in EDIT_TYPES if kind == given]
        return Wish(
            row,
            first_text(row, c.SOURCE_PROMPT, c.CAPTION),
            _given(row, c.INSTRUCTION),
            tuple(known or others),
            seed,
        )

    def _columns(self, row: Row, proposal: Proposal) -> NewColumns | Rejected:
        own = _given(row, c.INSTRUCTION)
        proposed = proposal.instruction
        instruction = (proposed or own) if self.rewrite else (own or proposed)
        if instruction is None and self.on_nothing == "reject":
            return Rejected("nothing_proposed", proposal.note or "the proposer has no edit")
        return {
            "instruction": instruction,
            "target_prompt": _given(row, c.TARGET_PROMPT) or proposal.target_prompt,
            "mask_phrase": _given(row, c.MASK_PHRASE) or proposal.mask_phrase,
            "edit_type": _given(row, c.EDIT_TYPE) or proposal.edit_type,
            PROPOSED_INSTRUCTION.name: proposed,
            INVERSE_INSTRUCTION.name: proposal.inverse_instruction,
            INSTRUCTION_VARIANTS.name: list(proposal.variants) or None,
            PROPOSE_STATUS.name: proposal.status,
            PROPOSE_NOTE.name: proposal.note,
        }


def _given(row: Row, column: Column) -> str | None:
    """Returns what the user gave of a column."""
    return first_text(row, _GIVEN[column.name])
