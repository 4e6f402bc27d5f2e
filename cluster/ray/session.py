"""Connection to a Ray cluster, or to a local Ray that is started for it.

Ray takes a second to import, so it is imported where it is used: most commands do without it.
"""

import os
import re
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from overpaint.cluster.ray.auth import require_token_auth
from overpaint.cluster.ray.local import own_signals, sessions_folder, silent_stderr
from overpaint.pipeline.errors import StoppedError, UsageError

_ANSWER_S = 10.0
_HOST_AND_PORT = re.compile(r"(ray://)?(?P<host>\[.+\]|[^:/]+):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class Session:
    """Address of a Ray cluster, or resources of a local one.

    Attributes:
        address: address of a cluster; None joins the one in `RAY_ADDRESS`, or starts a local one.
        num_cpus: logical CPUs of a local cluster; None for all of the machine.
        num_gpus: GPUs of a local cluster; None for those that Ray finds.
        object_store_bytes: size of a local cluster's object store; None for Ray's default.
        allow_open: whether to join a cluster that asks nobody for a token.
    """

    address: str | None = None
    num_cpus: int | None = None
    num_gpus: int | None = None
    object_store_bytes: int | None = None
    allow_open: bool = False

    @property
    def cluster_address(self) -> str | None:
        """The address of the cluster to join; None where a local one is to be started."""
        address = self.address or os.environ.get("RAY_ADDRESS")
        return None if address in ("", "local") else address

    @property
    def cluster_name(self) -> str:
        """The address of the cluster to join, and its origin, for people."""
        origin = "--address" if self.address else "RAY_ADDRESS in the environment"
        return f"{self.cluster_address} (from {origin})"


@contextmanager
def connected(session: Session) -> Generator[None]:
    """Joins or starts Ray, and leaves it at the end.

    Raises:
        UsageError: no cluster answers, the one that does is open to others, or a local one has no
            folder for its sockets.
        StoppedError: a local one does not start.

    Example:
        >>> with connected(Session(num_cpus=4)):
        ...     check_fits(plan, cluster_machines())
    """
    if session.cluster_address:
        _refuse_silent(session)
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        context = _initialise(session)
        if session.cluster_address and not session.allow_open:
            hosts = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
            require_token_auth(session.cluster_address, hosts, context.dashboard_url)
        yield
    finally:
        with own_signals():
            ray.shutdown()


def _initialise(session: Session) -> Any:
    """Joins or starts Ray; returns what Ray tells about it."""
    import ray

    options = _options(session)
    try:
        with own_signals(), silent_stderr():
            return ray.init(**options)
    except Exception as error:
        reason = str(error).strip().split("\n", 1)[0]
        if session.cluster_address is None:
            raise StoppedError(
                f"a local Ray does not start: {reason}; --no-ray does without"
            ) from error
        raise UsageError(f"no Ray cluster answers at {session.cluster_name}: {reason}") from error


def _refuse_silent(session: Session) -> None:
    """Refuses a cluster that does not answer: Ray would wait a quarter of an hour for it."""
    match = _HOST_AND_PORT.fullmatch(session.cluster_address or "")
    if match is None:
        return  # such as `auto`, which Ray looks up
    try:
        socket.create_connection((match["host"].strip("[]"), int(match["port"])), _ANSWER_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"no Ray cluster answers at {session.cluster_name}: {reason}") from error


def _options(session: Session) -> dict[str, Any]:
    # An actor sees only the GPUs it reserves, those of zero GPUs none.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    # Ray warns of every pool that its actors' arguments are in the object store (ray issue 53727).
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if session.cluster_address:
        return {**options, "address": session.cluster_address}
    return {
        **options,
        # Without it Ray joins whatever cluster somebody has started on this machine.
        "address": "local",
        "include_dashboard": False,
        "num_cpus": session.num_cpus,
        "num_gpus": session.num_gpus,
        "object_store_memory": session.object_store_bytes,
        "_temp_dir": sessions_folder(),
    }
