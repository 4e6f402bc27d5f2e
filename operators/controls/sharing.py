"""Self-attention and features of the source for all branches of a row.

The source runs along its inverted path beside the edit. Its keys and values carry how things look
(MasaCtrl, arXiv 2304.08465); its queries and keys, and the features of a coarse decoder block, how
the picture is laid out (Plug-and-Play, arXiv 2211.12572).

Shapes: n branches, b rows, h heads, q queries, k keys, d channels of a head; c channels of a
feature of h by w places.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from overpaint.operators.controls.source_negative import slerp
from overpaint.operators.diffusion.attention import QKV, Layer, Site
from overpaint.operators.diffusion.batch import Batch, BranchInputs

if TYPE_CHECKING:
    from torch import Tensor

Part = Literal["query", "key", "value"]
"""Inputs of attention that branches can share."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShareAttention:
    """Edit that gives other branches some of the queries, keys and values of the branch `source`.

    Attributes:
        parts: inputs of attention that are shared.
        layers: names of the layers.
        steps: indices of the steps in which the edit applies.
        branches: branches that take them; None for all.
    """

    parts: Collection[Part]
    layers: Collection[str]
    steps: range
    branches: Collection[str] | None = None

    def applies(self, site: Site) -> bool:
        """Tells whether a site is one of the layers in one of the steps."""
        return site.layer.name in self.layers and site.step.index in self.steps

    def __call__(self, site: Site, qkv: QKV) -> QKV:
        """Returns queries, keys and values, nbhqd and nbhkd, of which some are the source's."""
        shared = {part: self._shared(site, getattr(qkv, part)) for part in self.parts}
        return qkv._replace(**shared)

    def _shared(self, site: Site, tensor: "Tensor") -> "Tensor":
        """Returns a part in which some branches have the source's."""
        if self.branches is None:
            return _of_source(site, tensor)
        chosen = [site.branches.index(name) for name in self.branches if name in site.branches]
        edited = tensor.clone()
        edited[chosen] = tensor[site.branches.index("source")]
        return edited


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ShareAttentionLater(ShareAttention):
    """Edit that shares as `ShareAttention` does, and again in calls of a step without the source.

    A step that differentiates an energy asks for the source first, without a gradient.

    Attributes:
        kept: parts of the source 1bhkd of the last call with it, by the name of their layer.
    """

    kept: "dict[str, dict[Part, Tensor]]" = field(default_factory=dict[str, "dict[Part, Tensor]"])

    def __call__(self, site: Site, qkv: QKV) -> QKV:
        """Returns queries, keys and values, nbhqd and nbhkd, of which some are the source's."""
        if "source" in site.branches:
            source = site.branches.index("source")
            self.kept[site.layer.name] = {
                part: getattr(qkv, part)[source : source + 1] for part in self.parts
            }
        kept = self.kept[site.layer.name]
        shared = {part: own.expand_as(getattr(qkv, part)) for part, own in kept.items()}
        return qkv._replace(**shared)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ShareAttentionTo(ShareAttention):
    """Edit that gives some branches the queries, keys and values of another, maybe in a region.

    Attributes:
        to: branches that get them.
        source: branch that gives them.
        region_b1hw: share of each latent pixel in the region where they do; None for everywhere.
    """

    to: Collection[str]
    source: str = "source"
    region_b1hw: "Tensor | None" = None

    def __call__(self, site: Site, qkv: QKV) -> QKV:
        """Returns queries, keys and values, nbhqd and nbhkd, of which some are another branch's."""
        source = site.branches.index(self.source)
        goals = [index for index, name in enumerate(site.branches) if name in self.to]
        shared: dict[str, Tensor] = {}
        for part in self.parts:
            own: Tensor = getattr(qkv, part)
            shared[part] = own.clone()
            shared[part][goals] = self._inside(site, own[source], own[goals])
        return qkv._replace(**shared)

    def _inside(self, site: Site, given_bhqd: "Tensor", own_nbhqd: "Tensor") -> "Tensor":
        """Returns what is given where the region is, and each branch's own elsewhere."""
        if self.region_b1hw is None:
            return given_bhqd.expand_as(own_nbhqd)
        inside_bq = region_at(self.region_b1hw, site.size)
        return given_bhqd.where(inside_bq[:, None, :, None], own_nbhqd)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class JoinAttention:
    """Edit that lets all branches look at the source and, in a region, at themselves as well.

    Attributes:
        layers: names of the layers.
        steps: indices of the steps in which the edit applies.
        region_b1hw: share of each latent pixel in the region.
    """

    layers: Collection[str]
    steps: range
    region_b1hw: "Tensor"

    def applies(self, site: Site) -> bool:
        """Tells whether a site is one of the layers in one of the steps."""
        return site.layer.name in self.layers and site.step.index in self.steps

    def __call__(self, site: Site, qkv: QKV) -> QKV:
        """Returns keys and values of the source before the branch's own, nbhkd, and a bias."""
        import torch

        inside_bq = region_at(self.region_b1hw, site.size)
        reads_itself = torch.tensor([name != "source" for name in site.branches])
        allowed = (
            reads_itself.to(inside_bq.device).view(-1, 1, 1, 1, 1) & inside_bq[:, None, :, None]
        )
        num_keys = qkv.key.shape[3]
        forbids = (~allowed).expand(*allowed.shape[:4], num_keys)
        zeros = torch.zeros_like(forbids, dtype=qkv.query.dtype)
        bias = torch.cat([zeros, zeros.masked_fill(forbids, -torch.inf)], dim=-1)
        return QKV(
            qkv.query,
            torch.cat([_of_source(site, qkv.key), qkv.key], dim=3),
            torch.cat([_of_source(site, qkv.value), qkv.value], dim=3),
            bias,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ShareFeature:
    """Edit that gives every branch what a residual block adds in the branch `source`.

    Attributes:
        layer: name of the block.
        steps: indices of the steps in which the edit applies.
    """

    layer: str
    steps: range

    def applies(self, site: Site) -> bool:
        """Tells whether a site is the block in one of the steps."""
        return site.layer.name == self.layer and site.step.index in self.steps

    def __call__(self, site: Site, feature: "Tensor") -> "Tensor":
        """Returns the source's feature for all branches, nbchw."""
        return _of_source(site, feature)


@dataclass(frozen=True, kw_only=True, slots=True)
class MixFeature:
    """Edit that mixes what the middle block gives in one branch into that of another.

    It is the spherical interpolation of each row's whole feature, of the length of its own.

    Attributes:
        share: share of the other branch, 0 to 1.
        source: branch that is mixed in.
        to: branch that gets the mixture.
        steps: indices of the steps in which the edit applies.
    """

    share: float
    source: str
    to: str
    steps: range

    def applies(self, site: Site) -> bool:
        """Tells whether a site is the middle block in one of the steps."""
        return site.layer.kind == "middle" and site.step.index in self.steps

    def __call__(self, site: Site, feature: "Tensor") -> "Tensor":
        """Returns the features nbchw with one branch's mixed."""
        own = feature[site.branches.index(self.to)]
        given = feature[site.branches.index(self.source)]
        lengths = own.flatten(1).norm(dim=1) / given.flatten(1).norm(dim=1).clamp_min(1e-12)
        mixed = feature.clone()
        mixed[site.branches.index(self.to)] = slerp(
            own, given * lengths[:, None, None, None], self.share
        )
        return mixed


def region_at(region_b1hw: "Tensor", size: tuple[int, int]) -> "Tensor":
    """Returns the places bq of a layer's grid that are at least half inside a region, bool."""
    from torch.nn import functional

    return (functional.adaptive_avg_pool2d(region_b1hw.float(), size) >= 0.5).flatten(1)


def source_on_trajectory(batch: Batch) -> BranchInputs:
    """Returns a branch that runs along the inverted trajectories of a batch."""
    trajectory = batch.trajectory_sbchw
    return BranchInputs(latents=lambda step: trajectory[step.index])


def self_attention_layers(batch: Batch) -> list[Layer]:
    """Returns the self-attention layers of a batch's UNet in order of execution."""
    return [layer for layer in batch.model.attention.layers if layer.kind == "self"]


def _of_source(site: Site, tensor: "Tensor") -> "Tensor":
    source = site.branches.index("source")
    return tensor[source : source + 1].expand_as(tensor)
