"""Pods of a cluster, as Kubernetes writes them: containers, volumes, rights, and machines."""

from typing import Any

from overpaint.cluster.deploy.description import ClusterDescription, NodeGroup, Security
from overpaint.cluster.deploy.platforms import PLATFORMS, tolerations
from overpaint.cluster.deploy.sizes import SizedNodes

RECIPE_FOLDER = "/etc/overpaint"
"""Folder of the head node in which the recipe is."""
RECIPE_FILE = "recipe.toml"
_GRACE_S = 60
"""Seconds that a pod has to end, of which its tasks have most."""
_DRAIN = ["python", "-m", "overpaint.cluster.ray.drain", f"--within={_GRACE_S - 15}"]


def head_pod(cluster: ClusterDescription, *, recipe: str | None = None) -> dict[str, Any]:
    """Returns the pod of the head node.

    Args:
        cluster: description of the cluster.
        recipe: name of a ConfigMap with the recipe; None where none is mounted.
    """
    head = cluster.head
    container = _container(cluster, "ray-head", _resources(head.cpus, head.memory_gib))
    pod = _pod(cluster, container)
    selector = {**PLATFORMS[cluster.platform].market(spot=False), **head.node_selector}
    if selector:
        pod["nodeSelector"] = selector
    if recipe is not None:
        pod["volumes"].append({"name": "recipe", "configMap": {"name": recipe}})
        mount = {"name": "recipe", "mountPath": RECIPE_FOLDER, "readOnly": True}
        container["volumeMounts"].append(mount)
    return {"spec": pod}


def worker_pod(cluster: ClusterDescription, sized: SizedNodes) -> dict[str, Any]:
    """Returns the pod of a worker node: as it ends, its node takes no new task.

    Args:
        cluster: description of the cluster.
        sized: node group, with its sizes.
    """
    nodes = sized.nodes
    resources = _resources(sized.cpus, sized.memory_gib, nodes.gpus)
    container = _container(cluster, "ray-worker", resources)
    container["lifecycle"] = {"preStop": {"exec": {"command": _DRAIN}}}
    pod = _pod(cluster, container)
    pod["terminationGracePeriodSeconds"] = _GRACE_S
    if selector := _machines(cluster, nodes):
        pod["nodeSelector"] = selector
    platform = PLATFORMS[cluster.platform]
    tolerated = [*tolerations(platform, gpus=nodes.gpus, spot=nodes.spot), *nodes.tolerations]
    if tolerated:
        pod["tolerations"] = tolerated
    return {"spec": pod}


def submitter_pod(cluster: ClusterDescription) -> dict[str, Any]:
    """Returns the pod that submits a job, and follows its log."""
    container = _container(cluster, "ray-job-submitter", _resources(1, 0.5))
    return {"spec": {**_pod(cluster, container), "restartPolicy": "Never"}}


def security_context(security: Security) -> dict[str, Any]:
    """Returns the rights of a container: no more than an ordinary user has."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": security.read_only_root,
    }


def _pod(cluster: ClusterDescription, container: dict[str, Any]) -> dict[str, Any]:
    security = cluster.security
    pod: dict[str, Any] = {
        "containers": [container],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": security.run_as_user,
            "runAsGroup": security.group,
            "fsGroup": security.group,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": _volumes(cluster),
    }
    if cluster.service_account:
        pod["serviceAccountName"] = cluster.service_account
    if cluster.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in cluster.image_pull_secrets]
    return pod


def _container(cluster: ClusterDescription, name: str, resources: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": name,
        "image": cluster.image,
        "resources": resources,
        "securityContext": security_context(cluster.security),
        "env": [{"name": key, "value": value} for key, value in _environment(cluster).items()],
        "volumeMounts": _mounts(cluster),
    }
    if cluster.secrets:
        container["envFrom"] = [{"secretRef": {"name": secret}} for secret in cluster.secrets]
    return container


def _environment(cluster: ClusterDescription) -> dict[str, str]:
    own = {"HOME": "/tmp/home"} if cluster.security.read_only_root else {}
    if cluster.models:
        own["OVERPAINT_MODELS"] = cluster.models.path
        own["HF_HOME"] = f"{cluster.models.path}/hub"
        if cluster.models.read_only:
            own["HF_HUB_OFFLINE"] = "1"
    return {**own, **cluster.env}


def _volumes(cluster: ClusterDescription) -> list[dict[str, Any]]:
    limit = {"sizeLimit": f"{cluster.tmp_gib:g}Gi"} if cluster.tmp_gib else {}
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": limit}]
    if cluster.models:
        claim = {"claimName": cluster.models.claim, "readOnly": cluster.models.read_only}
        volumes.append({"name": "models", "persistentVolumeClaim": claim})
    return volumes


def _mounts(cluster: ClusterDescription) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]
    if cluster.models:
        models = cluster.models
        where = {"mountPath": models.path, "readOnly": models.read_only}
        mounts.append({"name": "models", **where})
    return mounts


def _resources(cpus: int, memory_gib: float, gpus: int = 0) -> dict[str, Any]:
    """Returns equal requests and limits: Ray counts by the limits, Kubernetes by the requests."""
    amounts = {"cpu": str(cpus), "memory": f"{round(memory_gib * 1024)}Mi"}
    if gpus:
        amounts["nvidia.com/gpu"] = str(gpus)
    return {"requests": dict(amounts), "limits": dict(amounts)}


def _machines(cluster: ClusterDescription, nodes: NodeGroup) -> dict[str, str]:
    platform = PLATFORMS[cluster.platform]
    labels = platform.market(spot=nodes.spot)
    if nodes.accelerator:
        labels[platform.accelerator] = nodes.accelerator
    return {**labels, **nodes.node_selector}
