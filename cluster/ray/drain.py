"""Notice to leave: asks Ray to give this machine no new task, and waits for those it has.

A pod runs this as it ends: `python -m overpaint.cluster.ray.drain --within 45`.
"""

import argparse
import logging
import sys
import time
from importlib import import_module
from typing import Any

_LOOK_EVERY_S = 0.5


def drain_node(address: str, node_id: str, within_s: float) -> bool:
    """Asks a cluster to give a node no new task, since it is going away.

    Args:
        address: address of the cluster's control store.
        node_id: hex id of the node.
        within_s: seconds after which the node is gone.

    Returns:
        True where the cluster has accepted it.
    """
    # Ray's own command line does it by the same calls.
    raylet: Any = import_module("ray._raylet")
    reasons: Any = import_module("ray.core.generated.autoscaler_pb2").DrainNodeReason
    deadline_ms = int((time.time() + within_s) * 1000)
    accepted, _ = raylet.GcsClient(address=address).drain_node(
        node_id,
        reasons.Value("DRAIN_NODE_REASON_PREEMPTION"),
        "the machine is taken back",
        deadline_ms,
    )
    return bool(accepted)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--within", type=float, default=45.0, help="seconds until the node is gone")
    within_s: float = parser.parse_args().within
    import ray

    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    context = ray.get_runtime_context()
    node_id, address = context.get_node_id(), context.gcs_address
    if not drain_node(address, node_id, within_s):
        return 1
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and _is_busy(node_id):
        time.sleep(_LOOK_EVERY_S)
    return 0


def _is_busy(node_id: str) -> bool:
    """Tells whether tasks are under way on a node."""
    from ray.util.state import list_tasks

    filters = [("state", "=", "RUNNING"), ("node_id", "=", node_id)]
    return bool(list_tasks(filters=filters, limit=1))  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    sys.exit(_main())
