"""Adapters and scheduler of a pipeline: what a recipe adds to the checkpoint of a loaded one."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.errors import near_miss


def add_to_pipeline(pipeline: Any, checkpoint: Checkpoint) -> None:
    """Fuses the adapters of a checkpoint, and replaces values of its scheduler.

    Args:
        pipeline: diffusers' pipeline with the checkpoint's own weights; changed in place.
        checkpoint: says what is added.

    Raises:
        ValueError: the pipeline takes no such adapter, or its scheduler has no such value.
    """
    for place, adapter in enumerate(checkpoint.adapters):
        adapter.fuse(pipeline, f"adapter_{place}")
    if checkpoint.scheduler:
        pipeline.scheduler = with_values(pipeline.scheduler, dict(checkpoint.scheduler))


def with_values(scheduler: Any, values: Mapping[str, Any]) -> Any:
    """Returns a scheduler of the same class with other values.

    Raises:
        ValueError: the class has no such value, or refuses it; names the near miss.
    """
    kind = type(scheduler)
    known = set(signature(kind.__init__).parameters) - {"self", "kwargs"}
    for name in values:
        if name not in known:
            raise ValueError(
                f"scheduler.{name}: a {kind.__name__} has no such value: {near_miss(name, known)}"
            )
    return kind.from_config(scheduler.config, **values)
