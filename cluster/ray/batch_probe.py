"""Probe of batch sizes on the node of a cluster where a group's actors will be."""

from collections.abc import Sequence
from typing import Any

import ray
from overpaint.cluster.ray.scheduling import ray_options
from overpaint.cluster.worker.batch_probe import BatchProbe, find_batch_sizes
from overpaint.pipeline.columns import Row
from overpaint.pipeline.errors import StoppedError
from overpaint.pipeline.plan import Plan
from ray.exceptions import RayError, RayTaskError


def find_batch_sizes_on_ray(plan: Plan, group: str, rows: Sequence[Row]) -> dict[str, BatchProbe]:
    """Finds batch sizes as `find_batch_sizes` does, with what an actor of the group reserves.

    Raises:
        StoppedError: the probe's worker is lost.
    """
    probe: Any = ray.remote(find_batch_sizes)
    options = {**ray_options(plan.placement(group)), "max_retries": 0}
    try:
        return ray.get(probe.options(**options).remote(plan, group, rows))
    except RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from None
        raise
    except RayError as error:
        raise StoppedError(f"the probe of batch sizes of group {group!r}: {error}") from None
