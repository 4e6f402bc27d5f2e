"""Joining a Ray cluster, or starting a local one; and whether a plan fits it.

Ray takes a second to import and commands that start none do without, so it is imported where it is
used.
"""

import os
import re
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overpaint.cluster.ray.auth import refuse_open
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.plan import Plan

_ANSWER_S = 10.0
_HOST_AND_PORT = re.compile(r"(ray://)?(?P<host>\[.+\]|[^:/]+):(?P<port>\d{1,5})")
_STREAM_CPUS = 1
"""What Ray Data needs beside the actors: a plan that takes every CPU would wait for ever."""


@dataclass(frozen=True, slots=True)
class Session:
    """How to reach Ray.

    Args:
        address: of a cluster; None joins the one in `RAY_ADDRESS`, or starts a local one.
        num_cpus: of a local cluster; None for all of the machine.
        num_gpus: of a local cluster; None for those that Ray finds.
        object_store_bytes: of a local cluster; None for Ray's default.
        allow_open: whether to join a cluster that asks nobody for a token.
    """

    address: str | None = None
    num_cpus: int | None = None
    num_gpus: int | None = None
    object_store_bytes: int | None = None
    allow_open: bool = False

    @property
    def cluster_address(self) -> str | None:
        """Of the cluster to join; None where a local one is to be started."""
        return self.address or os.environ.get("RAY_ADDRESS")


@contextmanager
def connected(session: Session) -> Generator[None]:
    """Joins or starts Ray, and leaves it at the end.

    Raises:
        UsageError: no cluster answers, or the one that does is open to others.
    """
    import ray

    if session.cluster_address:
        _refuse_silent(session.cluster_address)
    if ray.is_initialized():
        yield
        return
    try:
        with _silent_stderr(), _own_signals():
            context: Any = ray.init(**_options(session))
    except ConnectionError as error:
        raise UsageError(f"no Ray cluster answers at {session.cluster_address}") from error
    try:
        if session.cluster_address and not session.allow_open:
            hosts = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
            refuse_open(session.cluster_address, hosts, context.dashboard_url)
        yield
    finally:
        ray.shutdown()


def _refuse_silent(address: str) -> None:
    """Asks a cluster for a sign of life: Ray would wait a quarter of an hour for one."""
    found = _HOST_AND_PORT.fullmatch(address)
    if found is None:
        return  # such as `auto`, which Ray looks up
    try:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), _ANSWER_S).close()
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"no Ray cluster answers at {address}: {reason}") from error


@contextmanager
def _own_signals() -> Generator[None]:
    """Keeps this process's answer to SIGTERM: Ray's core takes it and aborts with a trace."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, kept)


@contextmanager
def _silent_stderr() -> Generator[None]:
    """Keeps off the terminal the line with which Ray's core repeats its log level.

    It is written by C++ to the file descriptor; what goes wrong is raised as well.
    """
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _options(session: Session) -> dict[str, Any]:
    # An actor sees only the GPUs it reserves, those of zero GPUs none.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    # Ray warns of every pool that its actors' arguments lie in the object store (ray issue 53727).
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
    }


def local_resources(session: Session) -> dict[str, float]:
    """What a local Ray would have, by Ray's names, without starting it."""
    cpus = session.num_cpus or len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"CPU": float(cpus), "GPU": float(_num_gpus(session)), "memory": float(memory)}


def _num_gpus(session: Session) -> int:
    if session.num_gpus is not None:
        return session.num_gpus
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def check_fits(plan: Plan, total: dict[str, float] | None = None) -> None:
    """Adds up what the fewest actors of every group need, against what the cluster has.

    Args:
        plan: whose groups are placed.
        total: what there is, by Ray's names; None asks the cluster.

    Raises:
        UsageError: naming the resource, what is needed and what there is.
    """
    there = _cluster_resources() if total is None else total
    needs = {"CPU": float(_STREAM_CPUS), "GPU": 0.0, "memory": 0.0}
    for group in plan.group_names:
        placement = plan.placement(group)
        fewest = placement.actors[0]
        needs["CPU"] += fewest * placement.num_cpus
        needs["GPU"] += fewest * placement.num_gpus
        needs["memory"] += fewest * (placement.memory_gib or 0.0) * 2**30
    for name, need in needs.items():
        if need > there.get(name, 0.0):
            raise UsageError(_does_not_fit(plan, name, need, there.get(name, 0.0)))


def _cluster_resources() -> dict[str, float]:
    import ray

    return {name: float(amount) for name, amount in ray.cluster_resources().items()}


def _does_not_fit(plan: Plan, name: str, need: float, there: float) -> str:
    groups = ", ".join(
        f"{group}: {plan.placement(group).actors[0]} x {_share(plan, group, name):g}"
        for group in plan.group_names
    )
    if name == "memory":
        need, there = need / 2**30, there / 2**30
    streaming = f", and {_STREAM_CPUS} for the stream" if name == "CPU" else ""
    unit = " GiB" if name == "memory" else ""
    field = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory_gib"}[name]
    return (
        f"the plan needs {need:g}{unit} {name} ({groups}{streaming}) and the cluster has "
        f"{there:g}{unit}: lower actors or {field} of a group, or use a larger cluster"
    )


def _share(plan: Plan, group: str, name: str) -> float:
    placement = plan.placement(group)
    shares = {"CPU": placement.num_cpus, "GPU": placement.num_gpus}
    return shares.get(name, placement.memory_gib or 0.0)
