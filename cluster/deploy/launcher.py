"""File for Ray's cluster launcher: `ray up FILE` starts such a cluster on a cloud's machines."""

from typing import Any

from overpaint.cluster.deploy.description import ClusterDescription, Launcher
from overpaint.cluster.deploy.sizes import SizedNodes, sized
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.plan import Plan

_HEAD = "head"
_PORT = 6379


def launcher_file(cluster: ClusterDescription, plan: Plan) -> dict[str, Any]:
    """Returns the contents of a launcher's file for a cluster that holds the actors of a plan.

    The machines' `RAY_AUTH_TOKEN` is that of the shell in which `ray up` runs.

    Raises:
        UsageError: the description has no launcher, or the plan does not fit the cluster.
    """
    launcher = cluster.launcher
    if launcher is None:
        raise UsageError(
            "the description has no launcher: write [launcher] with "
            "provider = { type = 'aws', region = '...' }"
        )
    nodes = sized(plan, cluster.nodes)
    file: dict[str, Any] = {
        "cluster_name": cluster.name,
        "max_workers": sum(one.max_nodes for one in nodes),
        "idle_timeout_minutes": max(one.nodes.idle_timeout_s for one in nodes) / 60,
        "provider": launcher.provider,
        "auth": _auth(launcher),
        "head_node_type": _HEAD,
        "available_node_types": {
            _HEAD: {
                "resources": {"CPU": 0},
                "min_workers": 0,
                "max_workers": 0,
                "node_config": cluster.head.node_config,
            },
            **{one.nodes.name: _node_type(one) for one in nodes},
        },
        "setup_commands": list(launcher.setup_commands),
        "head_start_ray_commands": ["ray stop", _start(f"--head --port={_PORT}")],
        "worker_start_ray_commands": ["ray stop", _start(f"--address=$RAY_HEAD_IP:{_PORT}")],
    }
    if launcher.docker:
        file["docker"] = _docker(cluster)
    return file


def _start(options: str) -> str:
    config = " --autoscaling-config=~/ray_bootstrap_config.yaml" if "--head" in options else ""
    return f"ulimit -n 65536; RAY_AUTH_MODE=token ray start {options}{config}"


def _auth(launcher: Launcher) -> dict[str, Any]:
    key = {"ssh_private_key": launcher.ssh_private_key} if launcher.ssh_private_key else {}
    return {"ssh_user": launcher.ssh_user, **key}


def _docker(cluster: ClusterDescription) -> dict[str, Any]:
    values = {"RAY_AUTH_MODE": "token", **cluster.env}
    passed = ["--env RAY_AUTH_TOKEN", *(f"--env {name}={value}" for name, value in values.items())]
    return {
        "image": cluster.image,
        "container_name": cluster.name,
        "run_options": ["--ulimit nofile=65536:65536", *passed],
    }


def _node_type(one: SizedNodes) -> dict[str, Any]:
    nodes = one.nodes
    resources: dict[str, int] = {"CPU": one.cpus, "memory": round(one.memory_gib * 0.7 * 2**30)}
    if nodes.gpus:
        resources["GPU"] = nodes.gpus
    kind: dict[str, Any] = {
        "resources": resources,
        "min_workers": one.min_nodes,
        "max_workers": one.max_nodes,
        "idle_timeout_s": nodes.idle_timeout_s,
        "labels": nodes.labels,
        "node_config": nodes.node_config,
    }
    if nodes.priority is not None:
        kind["priority"] = nodes.priority
    return kind
