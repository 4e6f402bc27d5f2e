"""Placement in Ray's words: what an actor reserves, and the labels of its node."""

from collections.abc import Mapping
from typing import Any

from overpaint.pipeline.accelerators import ACCELERATORS
from overpaint.pipeline.placement import Placement

ACCELERATOR_LABEL = "ray.io/accelerator-type"
"""Label of a node with its kind of accelerator: Ray finds it out, and `render` writes it."""
MARKET_LABEL = "ray.io/market-type"
"""Label of a node that is `spot` or `on-demand`: `render` writes it."""
_NO_ACCELERATOR = f"!in({','.join(ACCELERATORS)})"
"""Value of a selector that fits nodes without an accelerator that Ray has a name for."""


def ray_options(placement: Placement) -> dict[str, Any]:
    """Returns the options with which Ray starts an actor.

    The labels are sought in the order of `label_selectors`; the last ones must be there.
    """
    first, *others = label_selectors(placement)
    options: dict[str, Any] = {
        "num_cpus": placement.num_cpus,
        "num_gpus": placement.num_gpus or None,
        "memory": placement.memory_gib * 2**30 if placement.memory_gib else None,
    }
    if first:
        options["label_selector"] = first
    if others:
        options["fallback_strategy"] = [{"label_selector": labels} for labels in others]
    return options


def label_selectors(placement: Placement) -> list[dict[str, str]]:
    """Returns the labels of nodes for an actor, those that are sought first in front.

    A kind of accelerator is a must. Actors without a GPU are kept off nodes with one, and off
    another market, where others have room.

    Example:
        >>> label_selectors(Placement(num_gpus=1, accelerator_type="L4", market_type="spot"))
        [{'ray.io/accelerator-type': 'L4', 'ray.io/market-type': 'spot'},
         {'ray.io/accelerator-type': 'L4'}]
    """
    kind, market = placement.accelerator_type, placement.market_type
    must = {ACCELERATOR_LABEL: kind} if kind else {}
    better = must if placement.num_gpus else {ACCELERATOR_LABEL: _NO_ACCELERATOR}
    best = {**better, MARKET_LABEL: market} if market else better
    found = [best, better, must]
    return [labels for place, labels in enumerate(found) if labels not in found[:place]]


def has_accelerator(labels: Mapping[str, str], kind: str | None) -> bool:
    """Tells whether a node with these labels has a kind of accelerator; None is any."""
    return kind is None or labels.get(ACCELERATOR_LABEL) == kind
