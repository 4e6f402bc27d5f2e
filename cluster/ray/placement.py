"""Check that a plan fits a cluster: what the fewest actors of every group reserve together."""

import os
from collections.abc import Mapping
from pathlib import Path

from overpaint.cluster.ray.session import Session
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.operator import Placement
from overpaint.pipeline.plan import Plan

_STREAM_CPUS = 1
"""CPUs that Ray Data needs beside the actors: a plan that takes every CPU would wait forever."""
_FIELDS = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory_gib"}
"""Field of a placement by Ray's name of the resource."""


def check_fits(plan: Plan, available: Mapping[str, float]) -> None:
    """Checks that a cluster has what the fewest actors of every group reserve.

    Args:
        plan: plan with the groups to place.
        available: amounts by Ray's names, from `cluster_resources` or `local_resources`.

    Raises:
        UsageError: names the resource, what is needed and what there is.

    Example:
        >>> check_fits(plan, {"CPU": 16.0, "GPU": 2.0, "memory": 64.0 * 2**30})
    """
    for resource in _FIELDS:
        needed = _STREAM_CPUS if resource == "CPU" else 0.0
        needed += sum(_reserved(plan.placement(group), resource) for group in plan.group_names)
        if needed > available.get(resource, 0.0):
            message = _does_not_fit(plan, resource, needed, available.get(resource, 0.0))
            raise UsageError(message)


def cluster_resources() -> dict[str, float]:
    """Returns what the connected cluster has, by Ray's names."""
    import ray

    return {name: float(amount) for name, amount in ray.cluster_resources().items()}


def local_resources(session: Session) -> dict[str, float]:
    """Returns what a local Ray would have, by Ray's names, without starting it."""
    cpus = session.num_cpus or len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"CPU": float(cpus), "GPU": float(_num_gpus(session)), "memory": float(memory)}


def _num_gpus(session: Session) -> int:
    if session.num_gpus is not None:
        return session.num_gpus
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def _reserved(placement: Placement, resource: str) -> float:
    return placement.actors[0] * _reserved_by_actor(placement, resource)


def _reserved_by_actor(placement: Placement, resource: str) -> float:
    if resource == "memory":
        return (placement.memory_gib or 0.0) * 2**30
    return placement.num_cpus if resource == "CPU" else placement.num_gpus


def _does_not_fit(plan: Plan, resource: str, needed: float, available: float) -> str:
    unit, divisor = (" GiB", 2**30) if resource == "memory" else ("", 1)
    placements = {group: plan.placement(group) for group in plan.group_names}
    groups = ", ".join(
        f"{group}: {placement.actors[0]} x {_reserved_by_actor(placement, resource) / divisor:g}"
        for group, placement in placements.items()
    )
    streaming = f", and {_STREAM_CPUS} for the stream" if resource == "CPU" else ""
    return (
        f"the plan needs {needed / divisor:g}{unit} {resource} ({groups}{streaming}) and the "
        f"cluster has {available / divisor:g}{unit}: lower actors or {_FIELDS[resource]} of a "
        "group, or use a larger cluster"
    )
