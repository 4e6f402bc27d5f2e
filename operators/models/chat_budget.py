"""Budget of the questions that many threads of an actor put to a hosted model."""

import threading


class ChatBudget:
    """Requests and tokens that all questions to an endpoint share.

    Args:
        max_requests: requests that may be sent, repeated ones included; None for any number.
        max_total_tokens: tokens, by the endpoint's own count, after which no request is sent; those
            that are under way by then may go beyond it. None for any number.

    Attributes:
        num_requests: requests that were sent.
        num_tokens: tokens that the endpoint says were used, of prompts and of answers.
    """

    def __init__(
        self, max_requests: int | None = None, max_total_tokens: int | None = None
    ) -> None:
        self.num_requests = 0
        self.num_tokens = 0
        self._max_requests = max_requests
        self._max_total_tokens = max_total_tokens
        self._lock = threading.Lock()

    def take_request(self) -> bool:
        """Takes one request out of the budget; returns False where nothing is left of it."""
        with self._lock:
            if self._max_requests is not None and self.num_requests >= self._max_requests:
                return False
            if self._max_total_tokens is not None and self.num_tokens >= self._max_total_tokens:
                return False
            self.num_requests += 1
            return True

    def spend_tokens(self, num_tokens: int) -> None:
        """Counts the tokens of an answer."""
        with self._lock:
            self.num_tokens += max(0, num_tokens)
