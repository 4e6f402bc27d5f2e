"""Instructions written by a chat model of transformers, whose JSON is read strictly."""

from collections.abc import Sequence
from typing import Any

from overpaint.operators.measures.proposals import Proposal, read_proposal, unread
from overpaint.operators.models import chat_model
from overpaint.operators.models.chat_model import PromptTooLongError, Tokens
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.proposal_questions import AsksForProposals
from overpaint.operators.models.proposer import BatchProposer, Wish
from overpaint.operators.models.weights import PAPERCUT, DtypeName
from overpaint.pipeline.errors import RowError
from pydantic import Field


class ChatProposer(AsksForProposals, BatchProposer):
    """Asks an image-text-to-text model, or a language model, which answers greedily in JSON."""

    max_prompt_tokens: int = Field(default=1024, ge=1)
    """Every question is padded to this length, its picture included, so that rows can share a
    call and none depends on another."""
    max_new_tokens: int = Field(default=384, ge=1, le=8192)
    """Length at which an answer is cut off."""

    def check(self) -> None:
        """Checks that a checkpoint is named, and is there.

        Raises:
            ValueError: it is not.
        """
        if self.checkpoint == PAPERCUT:
            raise ValueError(
                f"checkpoint = {PAPERCUT!r}: papercut has no chat model: name a checkpoint, or "
                'take method = "templates"'
            )
        self.weights("float32").check()

    def load(self, dtype: DtypeName) -> Pretrained:
        """Loads the model: one that sees pictures, or one of text alone."""
        weights = self.weights(dtype)
        return chat_model.load(weights) if self.sees_source else chat_model.load_of_text(weights)

    def prepare(self, wish: Wish, model: Any) -> Tokens:
        """Returns the question for a wish as the model takes it.

        Raises:
            RowError: `proposal_too_long`.
        """
        try:
            return chat_model.tokenize(model, self.question(wish), self.max_prompt_tokens)
        except PromptTooLongError as error:
            raise RowError("proposal_too_long", str(error)) from error

    def infer(self, inputs: Sequence[Any], model: Any) -> Sequence[Any]:
        """Returns the model's reply to each question."""
        return chat_model.reply(model, inputs, self.max_new_tokens)

    def proposal(self, output: Any) -> Proposal:
        """Returns the proposal that a reply states."""
        return read_proposal(output, self.num_variants) or unread(output)
