"""Shares of a GPU that groups reserve, by the memory that their models are estimated to need."""

from collections.abc import Iterator, Mapping
from typing import Any

from overpaint.operators.diffusion.memory_need import MemoryNeed, memory_need
from overpaint.operators.diffusion.meta_networks import Sight
from overpaint.operators.diffusion.method import EXAMPLE_STEPS, LatentMethod, Method
from overpaint.operators.diffusion.pipeline_method import PipelineMethod
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.operator import Operator
from overpaint.pipeline.plan import Plan

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Shares that actors reserve: as many of them fill a GPU."""
CONTEXT_GIB = 0.75
"""Memory of a process on a GPU before its first model, in GiB."""
HEADROOM = 1.15
"""Factor for what the allocator holds beside what is asked of it."""


def with_gpu_shares(plan: Plan) -> tuple[Plan, list[str]]:
    """Returns a plan whose groups have a share in place of `auto`, and a sentence on each."""
    groups, notes = dict(plan.groups), list[str]()
    for name, placement in plan.groups.items():
        if placement.finds_gpu_share:
            share, note = _share(plan, name)
            found = {"num_gpus": share, "finds_gpu_share": False}
            groups[name] = placement.model_copy(update=found)
            notes.append(f"group {name!r}: num_gpus = {share:g}: {note}")
    return (plan.model_copy(update={"groups": groups}), notes) if notes else (plan, notes)


def _share(plan: Plan, group: str) -> tuple[float, str]:
    """Returns the smallest share with room for a group's models, and why it is that."""
    placement = plan.placement(group)
    there_gib = placement.gpu_memory_gib or 0.0
    needs = dict(_needs(plan, group))
    if unknown := [checkpoint.name for checkpoint, need in needs.items() if need is None]:
        return 1.0, f"{', '.join(unknown)} is not on this machine, so that its size is not known"
    known = [need for need in needs.values() if need is not None]
    weights = sum(need.weights for need in known) / 2**30
    # One model of an actor computes at a time.
    held = max((need.activations for need in known), default=0) / 2**30
    needed = CONTEXT_GIB + HEADROOM * (weights + held)
    words = (
        f"an estimate of {needed:.3g} of {there_gib:g} GiB of a {placement.accelerator_type} "
        f"({weights:.3g} GiB of weights, {held:.3g} at the peak of a call)"
    )
    share = next((share for share in SHARES if needed <= share * there_gib), None)
    return (1.0, f"{words}, which is more than it has") if share is None else (share, words)


def _needs(plan: Plan, group: str) -> Iterator[tuple[Checkpoint, MemoryNeed | None]]:
    """Yields each checkpoint of a group, which its stages share, with the largest need."""
    needs: dict[Checkpoint, list[MemoryNeed | None]] = {}
    for operator in _operators(plan, group):
        weights = getattr(operator, "weights", None)
        if isinstance(weights, Checkpoint):
            needs.setdefault(weights, []).append(_need(operator, weights))
    for weights, found in needs.items():
        yield weights, max(found, key=lambda need: need.activations if need else -1)


def _operators(plan: Plan, group: str) -> Iterator[Operator[Any]]:
    """Yields the operators of a group that have a model here; where rows choose, all choices."""
    for stage in plan.stages_of(group):
        choices: Mapping[str, Operator[Any]] = getattr(stage.operator, "choices", {})
        for chosen in choices.values() or [stage.operator]:
            if not getattr(getattr(chosen, "own", None), "is_hosted", False):
                yield chosen


def _need(operator: Operator[Any], weights: Checkpoint) -> MemoryNeed | None:
    method, num_rows = getattr(operator, "own", None), operator.batch_size
    if not isinstance(method, Method):
        return memory_need(weights, Sight(), num_rows=num_rows, num_branches=2, goes_back=False)
    if isinstance(method, PipelineMethod) and not method.call.shares_calls:
        num_rows = 1
    branches = method.branches() if isinstance(method, LatentMethod) else [""]
    return memory_need(
        weights,
        Sight(method.framed.resolution, method.num_pictures),
        num_rows=num_rows,
        num_branches=len(branches),
        goes_back=method.cost(EXAMPLE_STEPS).backward > 0,
    )
