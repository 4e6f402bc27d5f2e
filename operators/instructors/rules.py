"""Instructions read by rules: a small English grammar, no model; see `measures/instructions.py`."""

from collections.abc import Sequence
from typing import Any

from overpaint.operators.measures.instructions import read_instruction
from overpaint.operators.measures.readings import Reading, reading_of
from overpaint.operators.models.instructor import Instruction, Instructor
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.operator import Calls


class Rules(Instructor):
    """Reads instructions by a small English grammar, and says so where no rule fits."""

    def read(
        self, instructions: Sequence[Instruction], model: Any, calls: Calls
    ) -> Sequence[Reading | RowError]:
        """Reads each instruction, and puts the edit into the caption's words."""
        del model
        return calls.beside(_read, instructions)


def _read(instruction: Instruction) -> Reading:
    return reading_of(read_instruction(instruction.text), instruction.caption)
