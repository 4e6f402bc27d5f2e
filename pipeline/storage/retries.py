"""Retries of transient storage errors: throttling, a reset connection, an outage.

Requests are retried with exponential backoff and jitter, for two minutes at the most. An error that
is not transient (missing, forbidden, a full disk) rises at once.
"""

import errno
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from overpaint.pipeline.errors import StoppedError
from overpaint.pipeline.storage.uris import is_local
from tenacity import (
    retry,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")

_FINAL_ERRORS = (
    FileNotFoundError,
    PermissionError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
)
_FINAL_ERRNOS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.ELOOP,
}
_TRANSIENT_ERRORS = {
    "botocore.exceptions.ConnectionError",
    "botocore.exceptions.HTTPClientError",
    "aiohttp.client_exceptions.ClientConnectionError",
    "aiohttp.client_exceptions.ClientPayloadError",
}
"""Errors of clients that are not `OSError`s; by name, so that a local run imports no client."""
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}
_TRANSIENT_HTTP = {408, 429, 500, 502, 503, 504}
_NUM_ATTEMPTS = 10
_MAX_WAIT_S = 120
"""Bound on time, since clients retry on their own within each attempt."""


def is_transient(error: BaseException) -> bool:
    """Tells whether the same request may succeed a little later."""
    if isinstance(error, _FINAL_ERRORS):
        return False
    if isinstance(error, OSError):
        return error.errno not in _FINAL_ERRNOS
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    return bool(kinds & _TRANSIENT_ERRORS) or getattr(error, "status", None) in _TRANSIENT_HTTP


def retry_transient(call: Callable[Concatenate[str, P], T]) -> Callable[Concatenate[str, P], T]:
    """Retries transient storage errors of a function whose first argument is a URI.

    Example:
        >>> @retry_transient
        ... def delete(uri: str) -> None:
        ...     filesystem(uri).rm_file(uri)

    Raises:
        StoppedError: an object store has not come back.
        PermissionError: the store refuses access, or there are no credentials.
    """
    retried = _retried(call)

    @wraps(call)
    def with_retries(uri: str, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return retried(uri, *args, **kwargs)
        except Exception as error:
            if type(error).__name__ in _NO_CREDENTIALS:
                raise PermissionError(str(error)) from error
            if is_local(uri) or not is_transient(error):
                raise
            raise StoppedError(f"{uri}: the store does not answer ({error})") from error

    return with_retries


def _retried(call: Callable[Q, T]) -> Callable[Q, T]:
    return retry(
        retry=retry_if_exception(is_transient),
        wait=wait_random_exponential(multiplier=0.2, max=20),
        stop=stop_after_attempt(_NUM_ATTEMPTS) | stop_after_delay(_MAX_WAIT_S),
        reraise=True,
    )(call)
