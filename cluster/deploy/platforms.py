"""Labels and taints by which providers of Kubernetes tell kinds of GPUs and spot machines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Platform:
    """Labels and taints of one provider.

    Attributes:
        accelerator: label of a machine whose value is its kind of GPU.
        spot: labels of spot machines.
        on_demand: labels of the others.
        spot_taint: key and value of the taint of spot machines; None where they have none.
    """

    accelerator: str = "nvidia.com/gpu.product"
    spot: Mapping[str, str] = field(default_factory=dict[str, str])
    on_demand: Mapping[str, str] = field(default_factory=dict[str, str])
    spot_taint: tuple[str, str] | None = None

    def market(self, *, spot: bool) -> dict[str, str]:
        """Returns the labels of spot machines, or of the others."""
        return dict(self.spot if spot else self.on_demand)


PLATFORMS: Mapping[str, Platform] = {
    "plain": Platform(),
    "gke": Platform(
        accelerator="cloud.google.com/gke-accelerator",
        spot={"cloud.google.com/gke-spot": "true"},
        spot_taint=("cloud.google.com/gke-spot", "true"),
    ),
    "eks": Platform(
        accelerator="k8s.amazonaws.com/accelerator",
        spot={"eks.amazonaws.com/capacityType": "SPOT"},
        on_demand={"eks.amazonaws.com/capacityType": "ON_DEMAND"},
    ),
    "karpenter": Platform(
        accelerator="karpenter.k8s.aws/instance-gpu-name",
        spot={"karpenter.sh/capacity-type": "spot"},
        on_demand={"karpenter.sh/capacity-type": "on-demand"},
    ),
    "aks": Platform(
        spot={"kubernetes.azure.com/scalesetpriority": "spot"},
        spot_taint=("kubernetes.azure.com/scalesetpriority", "spot"),
    ),
}
"""Providers by name; `plain` is any Kubernetes with NVIDIA's GPU operator."""


def tolerations(platform: Platform, *, gpus: int, spot: bool) -> list[dict[str, Any]]:
    """Returns the taints that pods of a node group must tolerate, as Kubernetes writes them."""
    found: list[dict[str, Any]] = []
    if gpus:
        found.append({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
    if spot and platform.spot_taint:
        key, value = platform.spot_taint
        taint = {"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"}
        found.append(taint)
    return found
