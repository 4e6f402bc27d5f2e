"""Instructions written by a hosted model with OpenAI's chat-completions interface."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from overpaint.operators.measures.proposals import Proposal, read_proposal, unread
from overpaint.operators.models import chat_endpoint
from overpaint.operators.models.chat_endpoint import Endpoint, ForbiddenError
from overpaint.operators.models.endpoint_fields import HostedChat
from overpaint.operators.models.proposal_questions import AsksForProposals
from overpaint.operators.models.proposer import Proposer, Wish
from overpaint.operators.models.weights import DtypeName
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.operator import Calls, row_error_as_answer
from pydantic import Field

_AGAIN = "That is not the JSON object that was asked for. Answer with the object alone."


class HostedProposer(AsksForProposals, HostedChat, Proposer):
    """Asks a hosted model, whose JSON is read strictly; it gets the row's seed with the request."""

    repairs: int = Field(default=1, ge=0, le=3)
    """Times that the model is asked again, in the same chat, for JSON of the schema."""

    def load(self, dtype: DtypeName) -> Endpoint:
        """Reads the endpoint's key."""
        del dtype
        return self.open_endpoint(self.endpoint, "propose")

    def propose(
        self, wishes: Sequence[Wish], model: Any, calls: Calls
    ) -> Sequence[Proposal | RowError]:
        """Asks for each source, several at once."""
        del calls
        ask = partial(row_error_as_answer, self._ask, model)
        return list(model.threads.map(ask, wishes))

    def _ask(self, endpoint: Endpoint, wish: Wish) -> Proposal:
        question = self.question(wish)
        seeded = replace(endpoint, request={"seed": wish.seed % 2**31, **endpoint.request})
        turns: list[str] = []
        for _ in range(self.repairs + 1):
            try:
                reply = chat_endpoint.ask(seeded, question, turns)
            except ForbiddenError as error:
                raise RowError("proposal_forbidden", f"the {error}") from error
            if reply.status != "ok":
                return Proposal(status=reply.status, note=self.notes[reply.status])
            said = reply.text or ""
            if found := read_proposal(said, self.num_variants):
                return found
            turns += [said, _AGAIN]
        return unread(turns[-2])
