"""Objects of KubeRay, the operator of Ray on Kubernetes: RayCluster, RayJob and RayCronJob."""

import shlex
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from overpaint.cluster.deploy.description import ClusterDescription
from overpaint.cluster.deploy.pods import (
    RECIPE_FILE,
    RECIPE_FOLDER,
    head_pod,
    security_context,
    submitter_pod,
    worker_pod,
)
from overpaint.cluster.deploy.sizes import SizedNodes, sized
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.plan import Plan

_API = "ray.io/v1"
_MAX_RECIPE_BYTES = 1_000_000
"""Largest recipe that a ConfigMap takes."""


def ray_cluster(cluster: ClusterDescription, plan: Plan) -> list[dict[str, Any]]:
    """Returns a RayCluster that holds the actors of a plan, for jobs that are submitted to it.

    Raises:
        UsageError: the plan does not fit the cluster.
    """
    spec = _cluster_spec(cluster, sized(plan, cluster.nodes), recipe=None)
    return [{"apiVersion": _API, "kind": "RayCluster", "metadata": _named(cluster), "spec": spec}]


def ray_job(
    cluster: ClusterDescription, plan: Plan, recipe: str, arguments: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns a RayJob that runs a recipe on a cluster of its own, and the recipe's ConfigMap.

    A run that stopped early, such as by a lost head node, goes on in another cluster.

    Args:
        cluster: description of the cluster.
        plan: plan of the recipe.
        recipe: text of the recipe.
        arguments: options of `overpaint run`.

    Raises:
        UsageError: the plan does not fit the cluster, or the recipe is too long.
    """
    spec = _job_spec(cluster, plan, arguments)
    job = {"apiVersion": _API, "kind": "RayJob", "metadata": _named(cluster), "spec": spec}
    return [_recipe_object(cluster, recipe), job]


def ray_cron_job(
    cluster: ClusterDescription, plan: Plan, recipe: str, arguments: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns a RayCronJob whose every tick takes what is new, and the recipe's ConfigMap.

    KubeRay lets ticks overlap: one that finds another at work ends at once.

    Args:
        cluster: description of the cluster, with a schedule.
        plan: plan of the recipe.
        recipe: text of the recipe.
        arguments: options of `overpaint run`.

    Raises:
        UsageError: the description has no schedule, the plan does not fit the cluster, or the
            recipe is too long.
    """
    if cluster.schedule is None:
        raise UsageError(
            "the description has no schedule: write [schedule] with cron = '0 2 * * *'"
        )
    tick = [*arguments, *(name for name in ("--update", "--if-idle") if name not in arguments)]
    spec: dict[str, Any] = {
        "schedule": cluster.schedule.cron,
        "jobTemplate": _job_spec(cluster, plan, tick),
    }
    if cluster.schedule.time_zone:
        spec["timeZone"] = cluster.schedule.time_zone
    job = {"apiVersion": _API, "kind": "RayCronJob", "metadata": _named(cluster), "spec": spec}
    return [_recipe_object(cluster, recipe), job]


def _job_spec(cluster: ClusterDescription, plan: Plan, arguments: Sequence[str]) -> dict[str, Any]:
    command = ["overpaint", "run", f"{RECIPE_FOLDER}/{RECIPE_FILE}", *arguments]
    nodes = sized(plan, cluster.nodes)
    spec: dict[str, Any] = {
        "entrypoint": shlex.join(command),
        "submissionMode": "K8sJobMode",
        "submitterPodTemplate": submitter_pod(cluster),
        "backoffLimit": cluster.job.retries,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": cluster.job.keep_s,
        "rayClusterSpec": _cluster_spec(cluster, nodes, recipe=_recipe_name(cluster)),
    }
    if cluster.job.deadline_s:
        spec["activeDeadlineSeconds"] = cluster.job.deadline_s
    return spec


def _cluster_spec(
    cluster: ClusterDescription, nodes: Sequence[SizedNodes], recipe: str | None
) -> dict[str, Any]:
    auth: dict[str, Any] = {"mode": "token"}
    if cluster.auth_secret:
        auth["secretName"] = cluster.auth_secret
    return {
        "rayVersion": version("ray"),
        "authOptions": auth,
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": max(one.nodes.idle_timeout_s for one in nodes),
            "securityContext": security_context(cluster.security),
        },
        "headGroupSpec": {
            # No actor beside the driver: a head node that dies takes the run with it.
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
            "template": head_pod(cluster, recipe=recipe),
        },
        "workerGroupSpecs": [_worker_group(cluster, one) for one in nodes],
    }


def _worker_group(cluster: ClusterDescription, sized: SizedNodes) -> dict[str, Any]:
    nodes = sized.nodes
    group: dict[str, Any] = {
        "groupName": nodes.name,
        "replicas": sized.min_nodes,
        "minReplicas": sized.min_nodes,
        "maxReplicas": sized.max_nodes,
        "idleTimeoutSeconds": nodes.idle_timeout_s,
        "labels": nodes.labels,
        "rayStartParams": {},
        "template": worker_pod(cluster, sized),
    }
    if nodes.priority is not None:
        group["priority"] = nodes.priority
    return group


def _recipe_object(cluster: ClusterDescription, recipe: str) -> dict[str, Any]:
    if len(recipe.encode()) > _MAX_RECIPE_BYTES:
        raise UsageError("the recipe is larger than a ConfigMap takes, which is 1 MB")
    metadata = {**_named(cluster), "name": _recipe_name(cluster)}
    data = {RECIPE_FILE: recipe}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _recipe_name(cluster: ClusterDescription) -> str:
    return f"{cluster.name}-recipe"


def _named(cluster: ClusterDescription) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "overpaint", "app.kubernetes.io/instance": cluster.name}
    namespace = {"namespace": cluster.namespace} if cluster.namespace else {}
    return {"name": cluster.name, **namespace, "labels": labels}
