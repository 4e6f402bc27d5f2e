"""Questions about instructions to a chat model, which may see the source too."""

from overpaint.operators.measures.readings import PROMPT
from overpaint.operators.models.chat_model import Question
from overpaint.operators.models.instructor import Instruction
from overpaint.operators.models.sees_source import SeesSource
from overpaint.pipeline.edit_types import EDIT_TYPES
from pydantic import field_validator

_INSTRUCTION, _CAPTION, _TYPES = "{instruction}", "{caption}", "{edit_types}"


class AsksModel(SeesSource):
    """Fields of a question."""

    prompt: str | None = None
    """Question, with {instruction} in it, and {caption} and {edit_types} where they are wanted;
    null asks for JSON with edit_type, object_phrase, source_prompt, target_prompt and reason."""

    @field_validator("prompt")
    @classmethod
    def _asks(cls, value: str | None) -> str | None:
        if value is not None and _INSTRUCTION not in value:
            raise ValueError(f"prompt = {value!r} has no {_INSTRUCTION} in it")
        return value

    def question(self, instruction: Instruction) -> Question:
        """Returns the question about an instruction, with the source where it is seen."""
        # The instruction comes last: nothing in its text is replaced.
        text = (self.prompt or PROMPT).replace(_TYPES, ", ".join(EDIT_TYPES))
        text = text.replace(_CAPTION, instruction.caption or "not given")
        return Question(
            self.pictures(instruction.row), text.replace(_INSTRUCTION, instruction.text)
        )
