"""Questions about instructions to a chat model, which may see the source too."""

from collections.abc import Hashable

from overpaint.operators.measures.readings import PROMPT
from overpaint.operators.models import chat_model
from overpaint.operators.models.chat_model import Question
from overpaint.operators.models.instructor import Instruction, Reader
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.edit_types import EDIT_TYPES
from overpaint.pipeline.images import decode
from pydantic import Field, field_validator

_INSTRUCTION, _CAPTION, _TYPES = "{instruction}", "{caption}", "{edit_types}"


class AsksModel(Reader):
    """Fields of a question."""

    sees_source: bool = True
    """Whether the model is shown the source; false for a model of text alone."""
    image_px: int = Field(default=512, ge=16, le=4096)
    """Sources whose longer side is longer are scaled down to it."""
    prompt: str | None = None
    """Question, with {instruction} in it, and {caption} and {edit_types} where they are wanted;
    null asks for JSON with edit_type, object_phrase, source_prompt, target_prompt and reason."""

    @field_validator("prompt")
    @classmethod
    def _asks(cls, value: str | None) -> str | None:
        if value is not None and _INSTRUCTION not in value:
            raise ValueError(f"prompt = {value!r} has no {_INSTRUCTION} in it")
        return value

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source, where the model sees it."""
        return (c.SOURCE_IMAGE,) if self.sees_source else ()

    @property
    def optional(self) -> tuple[Column, ...]:
        """The source's size, where the model sees it."""
        return (c.WIDTH_PX, c.HEIGHT_PX) if self.sees_source else ()

    def bucket(self, row: Row) -> Hashable:
        """Returns the size of the picture: equal ones have equally many tokens."""
        width, height = row.get(c.WIDTH_PX.name), row.get(c.HEIGHT_PX.name)
        if not (self.sees_source and width and height):
            return None
        return chat_model.fitted(width, height, self.image_px)

    def question(self, instruction: Instruction) -> Question:
        """Returns the question about an instruction, with the source where it is seen."""
        pictures = (
            (chat_model.fit(decode(instruction.row["source_image"]).image(), self.image_px),)
            if self.sees_source
            else ()
        )
        # The instruction comes last: nothing in its text is replaced.
        text = (self.prompt or PROMPT).replace(_TYPES, ", ".join(EDIT_TYPES))
        text = text.replace(_CAPTION, instruction.caption or "not given")
        return Question(pictures, text.replace(_INSTRUCTION, instruction.text))
