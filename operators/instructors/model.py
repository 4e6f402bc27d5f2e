"""Instructions read by a chat model of transformers, whose JSON is read strictly."""

from collections.abc import Sequence
from typing import Any, ClassVar

from overpaint.operators.measures.readings import Reading, read_reply, refused_or_unread
from overpaint.operators.models import chat_model
from overpaint.operators.models.chat_model import PromptTooLongError, Tokens
from overpaint.operators.models.instruction_questions import AsksModel
from overpaint.operators.models.instructor import BatchInstructor, Instruction
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.weights import PAPERCUT, DtypeName
from overpaint.pipeline.errors import RowError
from pydantic import Field


class ChatModel(AsksModel, BatchInstructor):
    """Asks an image-text-to-text model, or a language model, which answers greedily in JSON."""

    part: ClassVar[str] = "instruct"

    max_prompt_tokens: int = Field(default=1024, ge=1)
    """Every question is padded to this length, its picture included, so that rows can share a
    call and none depends on another."""
    max_new_tokens: int = Field(default=256, ge=1, le=8192)
    """Length at which an answer is cut off."""

    def check(self) -> None:
        """Checks that a checkpoint is named, and is there.

        Raises:
            ValueError: it is not.
        """
        if self.checkpoint == PAPERCUT:
            raise ValueError(
                f"checkpoint = {PAPERCUT!r}: papercut has no chat model: name a checkpoint, or "
                'take method = "rules"'
            )
        super().check()

    def load(self, dtype: DtypeName) -> Pretrained:
        """Loads the model: one that sees pictures, or one of text alone."""
        weights = self.weights(dtype)
        return chat_model.load(weights) if self.sees_source else chat_model.load_of_text(weights)

    def prepare(self, instruction: Instruction, model: Any) -> Tokens:
        """Returns the question about an instruction as the model takes it.

        Raises:
            RowError: `instruction_too_long`.
        """
        try:
            return chat_model.tokenize(model, self.question(instruction), self.max_prompt_tokens)
        except PromptTooLongError as error:
            raise RowError("instruction_too_long", str(error)) from error

    def infer(self, inputs: Sequence[Any], model: Any) -> Sequence[Any]:
        """Returns the model's reply to each question."""
        return chat_model.reply(model, inputs, self.max_new_tokens)

    def reading(self, instruction: Instruction, input: Any, output: Any) -> Reading:
        """Returns the reading that a reply states."""
        del instruction, input
        return read_reply(output) or refused_or_unread(output)
