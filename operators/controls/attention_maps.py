"""Cross-attention maps: where words look, and how far that is from where they did before.

Shapes: n branches, b rows, h heads, q queries, k keys.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.attention import AttentionEdits, Layer, Site

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RecordCrossAttention:
    """Edit that changes nothing, and keeps the cross-attention maps of one branch.

    Attributes:
        branch: branch whose maps are kept.
        maps: maps bhqk, by the name of their layer.
    """

    branch: str
    maps: "dict[str, Tensor]" = field(default_factory=dict[str, "Tensor"])

    @property
    def edits(self) -> AttentionEdits:
        """The edits of a call that records."""
        return AttentionEdits(maps=[self])

    def applies(self, site: Site) -> bool:
        """Tells whether a site is cross-attention."""
        return site.layer.is_cross

    def __call__(self, site: Site, maps: "Tensor") -> "Tensor":
        """Keeps the maps nbhqk of the branch."""
        self.maps[site.layer.name] = maps[site.branches.index(self.branch)]
        return maps


def coarse_layers(layers: Sequence[Layer], size: tuple[int, int]) -> frozenset[str]:
    """Returns the cross-attention layers whose maps tell things apart: a quarter of the latents.

    At 512 pixels these are Stable Diffusion's maps of 16 by 16. Where a quarter is less than 8
    places, or no layer is that coarse, the finer ones next to it. The middle block is left out.

    Args:
        layers: layers of a UNet.
        size: rows and columns of the latents.
    """
    sides = [layer for layer in layers if layer.is_cross and not layer.name.startswith("mid_")]
    depths = {layer.depth for layer in sides}
    fine = {depth for depth in depths if depth <= 2 and min(size) >> depth >= 8}
    depth = max(fine or {min(depths)})
    return frozenset(layer.name for layer in sides if layer.depth == depth)


def map_distance(source: "Mapping[str, Tensor]", edited: "Mapping[str, Tensor]") -> "Tensor":
    """Returns each row's squared distance of maps bhqk: the mean of heads, summed over the rest."""
    import torch

    distances = [
        (maps.float() - source[name].detach().float()).square().mean(dim=1).sum(dim=(1, 2))
        for name, maps in edited.items()
    ]
    return torch.stack(distances).sum(dim=0)
