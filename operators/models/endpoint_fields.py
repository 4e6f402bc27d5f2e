"""Fields of everything that asks a hosted model: the request, patience, limits and a cache."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar
from urllib.parse import urlsplit

from overpaint.operators.models import chat_endpoint
from overpaint.operators.models.chat_budget import ChatBudget
from overpaint.operators.models.chat_endpoint import Endpoint, ReplyStatus
from overpaint.operators.models.reply_cache import ReplyCache
from overpaint.operators.models.request_limits import RequestLimits
from overpaint.pipeline.operator import NOT_IN_FINGERPRINT
from overpaint.pipeline.storage.store import Storage
from overpaint.pipeline.storage.uris import normalise
from pydantic import BaseModel, ConfigDict, Field, field_validator


class EndpointFields(BaseModel):
    """Fields of a hosted model with OpenAI's chat-completions interface."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    request: dict[str, Any] = Field(default={"temperature": 0, "max_tokens": 512})
    """What else is sent to the endpoint; `model` names the model."""
    api_key_env: str | None = Field(default=None, json_schema_extra=NOT_IN_FINGERPRINT)
    """The environment variable that holds the endpoint's key; null sends none."""
    timeout_s: float = Field(default=120.0, gt=0, json_schema_extra=NOT_IN_FINGERPRINT)
    """How long the endpoint may be silent, in seconds."""
    attempts: int = Field(default=4, ge=1, le=20, json_schema_extra=NOT_IN_FINGERPRINT)
    """Attempts at one answer while the endpoint is late or broken."""
    patience_s: float = Field(default=300.0, ge=0, json_schema_extra=NOT_IN_FINGERPRINT)
    """Time that a question waits in all for an endpoint that says that it is busy (429), in
    seconds; a wait is no attempt."""
    max_concurrency: int = Field(default=8, ge=1, le=256, json_schema_extra=NOT_IN_FINGERPRINT)
    """Questions on their way to the endpoint at once, from one actor."""
    max_requests_per_minute: float | None = Field(
        default=None, gt=0, json_schema_extra=NOT_IN_FINGERPRINT
    )
    """Requests that one actor begins in a minute; null sets no limit."""
    max_requests: int | None = Field(default=None, ge=1, json_schema_extra=NOT_IN_FINGERPRINT)
    """Requests that one actor may send, repeated ones included; the rows after them have the status
    over_budget. Null for any number."""
    max_total_tokens: int | None = Field(default=None, ge=1, json_schema_extra=NOT_IN_FINGERPRINT)
    """Tokens that the endpoint may count, of one actor's prompts and answers, before no more is
    asked; what is under way by then is still answered. Null for any number."""
    reply_cache: str | None = Field(default=None, json_schema_extra=NOT_IN_FINGERPRINT)
    """A folder or prefix that keeps each reply by its request, so that nothing is asked twice, not
    even after a run was killed; null keeps none."""

    def check_endpoint(self) -> None:
        """Checks that the key is there.

        Raises:
            ValueError: it is not.
        """
        if self.api_key_env is not None:
            chat_endpoint.read_api_key(self.api_key_env)

    def open_endpoint(self, url: str, name: str, more: Mapping[str, Any] | None = None) -> Endpoint:
        """Returns the endpoint at a URL, with threads that ask it.

        Args:
            url: address of the interface, up to `/v1`.
            name: word for the threads.
            more: members of the request, which those of the recipe can replace.
        """
        key = None if self.api_key_env is None else chat_endpoint.read_api_key(self.api_key_env)
        cache = self.reply_cache
        return Endpoint(
            url=url,
            api_key=key,
            request={**(more or {}), **self.request},
            timeout_s=self.timeout_s,
            threads=ThreadPoolExecutor(self.max_concurrency, thread_name_prefix=name),
            limits=RequestLimits(
                max_concurrency=self.max_concurrency,
                max_per_minute=self.max_requests_per_minute,
                attempts=self.attempts,
                patience_s=self.patience_s,
            ),
            budget=ChatBudget(self.max_requests, self.max_total_tokens),
            cache=None if cache is None else ReplyCache(Storage(normalise(cache))),
        )


class HostedChat(EndpointFields):
    """Fields of a hosted model that is always asked, and what is said where it does not answer."""

    notes: ClassVar[Mapping[ReplyStatus, str]] = {
        "timeout": "the endpoint did not answer in time",
        "unreachable": "the endpoint cannot be reached, or answers with errors",
        "busy": "the endpoint is busy for longer than patience_s",
        "bad_request": "the endpoint does not take the question",
        "refused": "the model declined to answer",
        "over_budget": "the budget of requests or tokens is spent",
    }

    endpoint: str = "http://localhost:8000/v1"
    """URL of the interface, up to `/v1`."""

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


def check_url(url: str) -> None:
    """Checks that an endpoint's URL is one of http or https.

    Raises:
        ValueError: it is not.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"endpoint = {url!r} is not an http or https URL")
