"""Sizes of node groups, from what the actors of a plan reserve.

GPU groups of the plan go to nodes with GPUs of their kind, the others to nodes without, and to
nodes with GPUs only where there are no others; a group that prefers spot machines, or the others,
goes to these where there are some. What a description leaves open is filled in; what cannot fit is
said before anything is started.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from overpaint.cluster.deploy.description import NodeGroup
from overpaint.cluster.ray.scheduling import ACCELERATOR_LABEL, MARKET_LABEL, has_accelerator
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.placement import Placement
from overpaint.pipeline.plan import Plan

_STREAM_CPUS = 1
"""CPUs of a node that Ray Data's own tasks take."""
_ACTOR_GIB = 8.0
"""Memory of an actor whose placement reserves none, in GiB."""
_OBJECT_STORE = 1.5
"""Factor for the object store, which takes 30 % of a node's memory."""


@dataclass(frozen=True, slots=True)
class SizedNodes:
    """Worker nodes of one shape, with nothing left open.

    Attributes:
        nodes: group as it is described.
        cpus: CPUs of a node.
        memory_gib: memory of a node, in GiB.
        min_nodes: the fewest nodes.
        max_nodes: the most nodes.
    """

    nodes: NodeGroup
    cpus: int
    memory_gib: float
    min_nodes: int
    max_nodes: int


def sized(plan: Plan, groups: Sequence[NodeGroup]) -> list[SizedNodes]:
    """Returns node groups that hold the actors of a plan.

    Raises:
        UsageError: an actor fits no node, or all nodes together are too few for the fewest actors.
    """
    groups = [
        nodes.model_copy(update={"min_nodes": 0}) if _may_be_absent(plan, nodes, groups) else nodes
        for nodes in groups
    ]
    found = [_sized(nodes, _placements(plan, nodes, groups)) for nodes in groups]
    for name in plan.group_names:
        _check_fits(name, plan.placement(name), found, groups)
    return found


def _placements(plan: Plan, nodes: NodeGroup, groups: Sequence[NodeGroup]) -> list[Placement]:
    """Returns the placements of the plan's groups that may run on a node group."""
    placements = [plan.placement(name) for name in plan.group_names]
    return [placement for placement in placements if _may_run(placement, nodes, groups)]


def _may_be_absent(plan: Plan, nodes: NodeGroup, groups: Sequence[NodeGroup]) -> bool:
    """Tells whether a run starts without spot nodes, since others of their kind are there."""
    if not nodes.spot or nodes.min_nodes is not None:
        return False
    steady = [other for other in groups if not other.spot]
    return any((other.gpus > 0) == (nodes.gpus > 0) for other in steady) and all(
        any(_may_run(placement, other, groups) for other in steady)
        for placement in _placements(plan, nodes, groups)
    )


def _may_run(placement: Placement, nodes: NodeGroup, groups: Sequence[NodeGroup]) -> bool:
    kind, market = placement.accelerator_type, placement.market_type
    able = [one for one in groups if one.gpus >= placement.num_gpus]
    able = [one for one in able if has_accelerator(one.labels, kind)]
    if not placement.num_gpus:
        able = [one for one in able if not one.gpus] or able
    if market:
        able = [one for one in able if one.labels[MARKET_LABEL] == market] or able
    return nodes in able


def _sized(nodes: NodeGroup, placements: Sequence[Placement]) -> SizedNodes:
    on_gpus = [one for one in placements if one.num_gpus]
    beside = [one for one in placements if not one.num_gpus]
    counts = [(one, int(nodes.gpus / one.num_gpus)) for one in on_gpus]
    counts += [(one, 1) for one in beside]
    # GPU groups take turns on the GPUs of a node; those without a GPU are beside them.
    cpus = max((n * one.num_cpus for one, n in counts if one.num_gpus), default=0.0)
    cpus += sum(one.num_cpus for one in beside)
    gib = max((n * _gib(one) for one, n in counts if one.num_gpus), default=0.0)
    gib += sum(_gib(one) for one in beside)
    num_cpus = nodes.cpus or max(1, math.ceil(cpus)) + _STREAM_CPUS
    memory_gib = nodes.memory_gib or max(4.0, math.ceil(gib * _OBJECT_STORE))
    # Groups that share the GPUs of a node add up; those without a GPU take what is beside them.
    fewest = _nodes_for(((one, one.actors[0]) for one in placements), nodes, num_cpus)
    most = _nodes_for(((one, one.actors[1]) for one in placements), nodes, num_cpus)
    max_nodes = nodes.max_nodes if nodes.max_nodes is not None else max(most, nodes.min_nodes or 0)
    min_nodes = nodes.min_nodes if nodes.min_nodes is not None else min(fewest, max_nodes)
    return SizedNodes(nodes, num_cpus, memory_gib, min_nodes, max_nodes)


def _nodes_for(actors: Iterable[tuple[Placement, int]], nodes: NodeGroup, cpus: int) -> int:
    """Returns the number of nodes on which actors fit side by side, by GPUs and by CPUs."""
    listed = list(actors)
    gpus = sum(number * one.num_gpus for one, number in listed)
    reserved = sum(number * one.num_cpus for one, number in listed)
    by_gpus = math.ceil(gpus / nodes.gpus) if nodes.gpus else 0
    return max(by_gpus, math.ceil(reserved / max(1, cpus - _STREAM_CPUS)))


def _gib(placement: Placement) -> float:
    return placement.memory_gib or _ACTOR_GIB


def _check_fits(
    name: str, placement: Placement, found: Sequence[SizedNodes], groups: Sequence[NodeGroup]
) -> None:
    """Refuses a group of the plan whose fewest actors have no place."""
    places = [
        (one, per_node)
        for one in found
        if _may_run(placement, one.nodes, groups) and (per_node := _per_node(placement, one))
    ]
    if not places:
        needs = f"{placement.num_cpus:g} CPUs, {placement.num_gpus:g} GPUs"
        needs += f", {placement.memory_gib:g} GiB" if placement.memory_gib else ""
        needs += f", {placement.accelerator_type}" if placement.accelerator_type else ""
        there = "; ".join(
            f"{one.nodes.name}: {one.cpus} CPUs, {one.nodes.gpus} GPUs, {one.memory_gib:g} GiB"
            + (f", {kind}" if (kind := one.nodes.labels.get(ACCELERATOR_LABEL)) else "")
            for one in found
        )
        raise UsageError(f"group {name!r}: an actor needs {needs} and fits no node ({there})")
    most = sum(one.max_nodes * per_node for one, per_node in places)
    if most < placement.actors[0]:
        raise UsageError(
            f"group {name!r} needs {placement.actors[0]} actors at least, and the most nodes hold "
            f"{most}: raise max_nodes of {' or '.join(one.nodes.name for one, _ in places)}"
        )
    at_start = sum(one.min_nodes * per_node for one, per_node in places)
    if at_start < placement.actors[0]:
        raise UsageError(
            f"group {name!r} needs {placement.actors[0]} actors to start; the fewest nodes hold "
            f"{at_start}: raise min_nodes of {' or '.join(one.nodes.name for one, _ in places)}"
        )


def _per_node(placement: Placement, one: SizedNodes) -> int:
    """Returns how many actors of a placement one node holds."""
    bounds = [one.cpus / placement.num_cpus]
    if placement.num_gpus:
        bounds.append(one.nodes.gpus / placement.num_gpus)
    if placement.memory_gib:
        bounds.append(one.memory_gib / placement.memory_gib)
    return int(min(bounds))
