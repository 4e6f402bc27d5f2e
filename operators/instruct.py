"""`instruct`: reads an instruction into prompts, edit type, and the phrase that mask finders read.

An instructor of `operators/instructors` reads it; what cannot be told is null, and a status and a
note say why. What the input already gives stays.
"""

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import pyarrow as pa
from overpaint.operators.instructors import INSTRUCTORS
from overpaint.operators.measures.readings import Reading, concepts
from overpaint.operators.models.instructor import (
    BatchInstructor,
    Instruction,
    Instructor,
    Reader,
)
from overpaint.operators.models.uses_checkpoint import TorchOperator
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row, first_text
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.operator import (
    Answer,
    Calls,
    Kind,
    ModelOperator,
    NewColumns,
    row_error_as_answer,
)
from overpaint.pipeline.variant import VariantOperator

INSTRUCT_STATUS = Column(
    "instruct_status",
    pa.string(),
    "ok, or why something is null: partial, unknown, missing (no instruction), parse_error, "
    "refused, timeout, unreachable, busy, bad_request or over_budget",
)
INSTRUCT_NOTE = Column("instruct_note", pa.string(), "what the reading does not tell, and why")

_READ = (
    *(c.EDIT_TYPE, c.MASK_PHRASE, c.SOURCE_PROMPT, c.TARGET_PROMPT),
    *(c.SOURCE_CLASS, c.TARGET_CLASS),
)
_SOURCE_PROMPT = Column(f"in_{c.SOURCE_PROMPT.name}", pa.string(), c.SOURCE_PROMPT.doc)
_KEPT = {
    column.name: Column(f"in_{column.name}", column.type, column.doc)
    for column in (*_READ, c.EDIT_CONCEPTS)
    if column is not c.SOURCE_PROMPT
}
"""Columns of the input that stand in place of what is read."""


class Prepared(NamedTuple):
    """An instruction that is ready for its model, with the input that its instructor made of it.

    Attributes:
        instruction: the instruction.
        shown: what the model is to see.
    """

    instruction: Instruction
    shown: Any


class Instruct(TorchOperator[Any], VariantOperator[Any], ModelOperator[Any, Prepared, Any]):
    """Reads each instruction into prompts, edit type, concepts and the phrase for a mask."""

    kind: ClassVar[Kind] = "caption"
    variants = INSTRUCTORS
    default_method = "rules"

    keep_given: bool = True
    """Whether what the input gives of the columns that are written stands in place of what is
    read; the source prompt always does."""
    on_unknown: Literal["null", "fail"] = "null"
    """`null` leaves what is not known null, and says so in `instruct_status` and `instruct_note`;
    `fail` fails a row without an edit type or a target prompt."""

    @property
    def instructor(self) -> Reader:
        """The instructor with its fields."""
        assert isinstance(self.settings, Reader)
        return self.settings

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The instruction, and what the instructor needs."""
        return (c.INSTRUCTION, *self.instructor.inputs)

    @property
    def optional(self) -> tuple[Column, ...]:
        """The words for the source, and what the input gives of the columns that are written."""
        kept = _KEPT.values() if self.keep_given else ()
        return (_SOURCE_PROMPT, c.CAPTION, *self.instructor.optional, *kept)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The reading, and what it does not tell."""
        return (*_READ, c.EDIT_CONCEPTS, INSTRUCT_STATUS, INSTRUCT_NOTE)

    def check(self) -> None:
        """Checks that what the instructor needs is there."""
        self.instructor.check()

    def revisions(self) -> dict[str, str]:
        """Returns the weights of the instructor's models."""
        return self.instructor.revisions()

    def bucket(self, row: Row) -> Hashable:
        """Returns what must agree in one call of the instructor."""
        return self.instructor.bucket(row)

    def load(self) -> Any:
        """Loads what the instructor needs."""
        return self.instructor.load(self.dtype)

    def run_by(self, rows: Sequence[Row], model: Any, calls: Calls) -> list[Answer]:
        """Reads each instruction; where the instructor has no model here, beside the models."""
        asked = [row for row in rows if self._has_instruction(row)]
        answers = iter(self._read(asked, model, calls) if asked else [])
        missing = Reading(status="missing", note="the row has no instruction")
        return [
            next(answers) if self._has_instruction(row) else self._ended(row, missing)
            for row in rows
        ]

    def _read(self, rows: Sequence[Row], model: Any, calls: Calls) -> list[Answer]:
        instructor = self.instructor
        if not isinstance(instructor, Instructor):
            return super().run_by(rows, model, calls)
        readings = instructor.read([self._instruction(row) for row in rows], model, calls)
        return [self._ended(row, each) for row, each in zip(rows, readings, strict=True)]

    def prepare(self, row: Row, model: Any, /) -> Prepared:
        """Returns what the instructor's model is to see of an instruction."""
        instruction = self._instruction(row)
        return Prepared(instruction, self._batched.prepare(instruction, model))

    def infer(self, inputs: Sequence[Prepared], model: Any, /) -> Sequence[Any]:
        """Runs the instructor's model."""
        return self._batched.infer([prepared.shown for prepared in inputs], model)

    def answer(self, row: Row, input: Prepared, output: Any, model: Any, /) -> NewColumns:
        """Returns the reading of one instruction.

        Raises:
            RowError: `instruction_unknown`.
        """
        del model
        return self._columns(row, self._batched.reading(input.instruction, input.shown, output))

    @property
    def _batched(self) -> BatchInstructor:
        assert isinstance(self.settings, BatchInstructor)
        return self.settings

    def _has_instruction(self, row: Row) -> bool:
        return first_text(row, c.INSTRUCTION) is not None

    def _instruction(self, row: Row) -> Instruction:
        text = first_text(row, c.INSTRUCTION) or ""
        return Instruction(text, first_text(row, _SOURCE_PROMPT, c.CAPTION), row)

    def _ended(self, row: Row, reading: Reading | RowError) -> Answer:
        if isinstance(reading, RowError):
            return reading
        return row_error_as_answer(self._columns, row, reading)

    def _columns(self, row: Row, reading: Reading) -> NewColumns:
        """Returns the new columns of a row: what the input gives, else what was read.

        Raises:
            RowError: `instruction_unknown`: something is not known, and the recipe says `fail`.
        """
        read = {column.name: getattr(reading, column.name) for column in _READ}
        read[c.SOURCE_PROMPT.name] = (
            first_text(row, _SOURCE_PROMPT) or reading.source_prompt or first_text(row, c.CAPTION)
        )
        read[c.EDIT_CONCEPTS.name] = concepts(reading)
        if self.keep_given:
            given = {name: row.get(column.name) for name, column in _KEPT.items()}
            read |= {name: value for name, value in given.items() if not c.is_missing(value)}
        is_whole = read["edit_type"] is not None and read["target_prompt"] is not None
        if self.on_unknown == "fail" and not is_whole:
            raise RowError("instruction_unknown", reading.note or "the reading is not whole")
        return {**read, INSTRUCT_STATUS.name: reading.status, INSTRUCT_NOTE.name: reading.note}
