"""Instructions written by a hosted model with OpenAI's chat-completions interface."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from overpaint.operators.measures.proposals import Proposal, read_proposal, unread
from overpaint.operators.models import chat_endpoint
from overpaint.operators.models.chat_endpoint import Endpoint, ForbiddenError, ReplyStatus
from overpaint.operators.models.endpoint_fields import EndpointFields, check_url
from overpaint.operators.models.proposal_questions import AsksForProposals
from overpaint.operators.models.proposer import Proposer, Wish
from overpaint.operators.models.weights import DtypeName
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.operator import Calls, row_error_as_answer
from pydantic import Field, field_validator

_NOTES: dict[ReplyStatus, str] = {
    "timeout": "the endpoint did not answer in time",
    "unreachable": "the endpoint cannot be reached, or answers with errors",
    "bad_request": "the endpoint does not take the question",
    "refused": "the model declined to answer",
    "over_budget": "the budget of requests or tokens is spent",
}
_AGAIN = "That is not the JSON object that was asked for. Answer with the object alone."


class HostedProposer(AsksForProposals, EndpointFields, Proposer):
    """Asks a hosted model, whose JSON is read strictly; it gets the row's seed with the request."""

    endpoint: str = "http://localhost:8000/v1"
    """URL of the interface, up to `/v1`."""
    repairs: int = Field(default=1, ge=0, le=3)
    """Times that the model is asked again, in the same chat, for JSON of the schema."""

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, value: str) -> str:
        check_url(value)
        return value

    def check(self) -> None:
        """Checks that the request names a model, and that the key is there.

        Raises:
            ValueError: one of them is missing.
        """
        if "model" not in self.request:
            raise ValueError('request names no model: give request = { model = "..." }')
        self.check_endpoint()

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
                return Proposal(status=reply.status, note=_NOTES[reply.status])
            said = reply.text or ""
            if found := read_proposal(said, self.num_variants):
                return found
            turns += [said, _AGAIN]
        return unread(turns[-2])
