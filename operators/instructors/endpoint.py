"""Instructions read by a hosted model with OpenAI's chat-completions interface."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from overpaint.operators.measures.readings import Reading, read_reply, refused_or_unread
from overpaint.operators.models import chat_endpoint
from overpaint.operators.models.chat_endpoint import Endpoint, ForbiddenError
from overpaint.operators.models.endpoint_fields import HostedChat
from overpaint.operators.models.instruction_questions import AsksModel
from overpaint.operators.models.instructor import Instruction, Instructor
from overpaint.operators.models.weights import DtypeName
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.operator import Calls, row_error_as_answer
from pydantic import Field


class HostedModel(AsksModel, HostedChat, Instructor):
    """Asks a hosted model, whose JSON is read strictly: a bad answer is asked for again."""

    reproducible: ClassVar[bool] = False

    num_answers: int = Field(default=2, ge=1, le=10)
    """Answers that are asked for until one is JSON of the schema."""

    def load(self, dtype: DtypeName) -> Endpoint:
        """Reads the endpoint's key."""
        del dtype
        return self.open_endpoint(self.endpoint, "instruct")

    def read(
        self, instructions: Sequence[Instruction], model: Any, calls: Calls
    ) -> Sequence[Reading | RowError]:
        """Asks about each instruction, several at once."""
        del calls
        ask = partial(row_error_as_answer, self._ask, model)
        return list(model.threads.map(ask, instructions))

    def _ask(self, endpoint: Endpoint, instruction: Instruction) -> Reading:
        question = self.question(instruction)
        said = ""
        for _ in range(self.num_answers):
            try:
                reply = chat_endpoint.ask(endpoint, question)
            except ForbiddenError as error:
                raise RowError("instruction_forbidden", f"the {error}") from error
            if reply.status != "ok":
                return Reading(status=reply.status, note=self.notes[reply.status])
            said = reply.text or ""
            if reading := read_reply(said):
                return reading
        return refused_or_unread(said)
