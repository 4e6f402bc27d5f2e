"""Check that a plan fits a cluster: what the fewest actors of every group reserve, and where."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from overpaint.cluster.ray.scheduling import has_accelerator
from overpaint.cluster.ray.session import Session
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.placement import Placement
from overpaint.pipeline.plan import Plan

_STREAM_CPUS = 1
"""CPUs that Ray Data needs beside the actors: a plan that takes every CPU would wait forever."""
_FIELDS = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory_gib"}
"""Field of a placement by Ray's name of the resource."""
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Machine:
    """Node of a cluster.

    Attributes:
        resources: amounts by Ray's names, memory in bytes.
        labels: Ray's labels of the node; None where Ray has not told them yet.
    """

    resources: Mapping[str, float]
    labels: Mapping[str, str] | None = None

    def may_hold(self, placement: Placement) -> bool:
        """Tells whether the machine has the kind of accelerator that a placement asks for."""
        return self.labels is None or has_accelerator(self.labels, placement.accelerator_type)

    def num_actors(self, placement: Placement) -> int:
        """Returns how many actors of a placement find room on the empty machine."""
        reserved = {name: _reserved_by_actor(placement, name) for name in _FIELDS}
        bounds = [
            self.resources.get(name, 0.0) / amount + _ROUNDING
            for name, amount in reserved.items()
            if amount
        ]
        return int(min(bounds)) if self.may_hold(placement) else 0


def check_fits(plan: Plan, machines: Sequence[Machine]) -> None:
    """Checks that a cluster has what the fewest actors of every group reserve.

    Args:
        plan: plan with the groups to place.
        machines: nodes of the cluster, from `cluster_machines` or `local_machine`.

    Raises:
        UsageError: names the group or the resource, what is needed and what there is.

    Example:
        >>> check_fits(plan, [Machine({"CPU": 16.0, "GPU": 2.0, "memory": 64.0 * 2**30})])
    """
    placements = {group: plan.placement(group) for group in plan.group_names}
    _check_sums(placements, machines, None)
    for kind in sorted({p.accelerator_type for p in placements.values() if p.accelerator_type}):
        of_kind = {name: p for name, p in placements.items() if p.accelerator_type == kind}
        there = [machine for machine in machines if any(map(machine.may_hold, of_kind.values()))]
        _check_sums(of_kind, there, kind)
    for name, placement in placements.items():
        _check_room(name, placement, machines)


def cluster_machines() -> list[Machine]:
    """Returns the nodes of the connected cluster."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    return [Machine(node["Resources"], node.get("Labels") or {}) for node in alive]


def local_machine(session: Session) -> Machine:
    """Returns this machine as a local Ray would have it, without starting one."""
    cpus = session.num_cpus or len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine({"CPU": float(cpus), "GPU": float(_num_gpus(session)), "memory": float(memory)})


def _num_gpus(session: Session) -> int:
    if session.num_gpus is not None:
        return session.num_gpus
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def _check_sums(
    placements: Mapping[str, Placement], machines: Sequence[Machine], kind: str | None
) -> None:
    """Checks that machines have what groups reserve together.

    Args:
        placements: placements of the groups, by name.
        machines: machines for these groups.
        kind: the one kind of accelerator of all of these; None for any, and the stream beside.
    """
    # A kind of accelerator is missed by its name first, not by the CPUs beside it.
    for resource in sorted(_FIELDS, key=lambda name: kind is not None and name != "GPU"):
        needed = _STREAM_CPUS if resource == "CPU" and kind is None else 0.0
        needed += sum(_reserved(placement, resource) for placement in placements.values())
        available = sum(machine.resources.get(resource, 0.0) for machine in machines)
        if needed > available + _ROUNDING:
            raise UsageError(_does_not_fit(placements, resource, needed, available, kind))


def _check_room(name: str, placement: Placement, machines: Sequence[Machine]) -> None:
    """Checks that single machines have room for the fewest actors of a group."""
    room = sum(machine.num_actors(placement) for machine in machines)
    if room >= placement.actors[0]:
        return
    amounts = {resource: _reserved_by_actor(placement, resource) for resource in _FIELDS}
    there = "; ".join(dict.fromkeys(_words(one.resources, one.labels or {}) for one in machines))
    raise UsageError(
        f"group {name!r} needs {placement.actors[0]} actors of {_words(amounts, {})} each, and the "
        f"machines hold {room} ({there}): an actor is on one machine: lower what it reserves, or "
        "use larger machines"
    )


def _words(amounts: Mapping[str, float], labels: Mapping[str, str]) -> str:
    found = [
        f"{amounts[name] / _divisor(name):.4g}{' GiB' if name == 'memory' else ''} {name}"
        for name in _FIELDS
        if amounts.get(name)
    ]
    return " ".join([*found, *(labels[name] for name in sorted(labels) if "type" in name)])


def _reserved(placement: Placement, resource: str) -> float:
    return placement.actors[0] * _reserved_by_actor(placement, resource)


def _reserved_by_actor(placement: Placement, resource: str) -> float:
    if resource == "memory":
        return (placement.memory_gib or 0.0) * 2**30
    return placement.num_cpus if resource == "CPU" else placement.num_gpus


def _divisor(resource: str) -> int:
    return 2**30 if resource == "memory" else 1


def _does_not_fit(
    placements: Mapping[str, Placement],
    resource: str,
    needed: float,
    available: float,
    kind: str | None,
) -> str:
    unit, divisor = " GiB" if resource == "memory" else "", _divisor(resource)
    groups = ", ".join(
        f"{group}: {placement.actors[0]} x {_reserved_by_actor(placement, resource) / divisor:g}"
        for group, placement in placements.items()
    )
    streaming = f", and {_STREAM_CPUS} for the stream" if resource == "CPU" and not kind else ""
    where = f" on machines with accelerator_type {kind!r}" if kind else ""
    return (
        f"the plan needs {needed / divisor:g}{unit} {resource}{where} ({groups}{streaming}) and "
        f"the cluster has {available / divisor:g}{unit}: lower actors or {_FIELDS[resource]} of a "
        f"group, {'change accelerator_type, ' if kind else ''}or use a larger cluster"
    )
