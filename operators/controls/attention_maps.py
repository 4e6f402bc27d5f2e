"""Cross-attention maps: where words look, and how far that is from where they did before.

Shapes: n branches, b rows, h heads, q queries, k keys, t tokens; y and x places of a map.
"""

from collections.abc import Collection, Mapping, Sequence
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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RecordWordMaps:
    """Edit that changes nothing, and keeps where some words of each branch look.

    Attributes:
        words: weights bt of the tokens whose maps are added, by branch.
        layers: names of the layers.
        maps: maps bhyx of one layer each, by branch, since they were taken.
    """

    words: "Mapping[str, Tensor]"
    layers: Collection[str]
    maps: "dict[str, list[Tensor]]" = field(default_factory=dict[str, "list[Tensor]"])

    @property
    def edits(self) -> AttentionEdits:
        """The edits of a call that records."""
        return AttentionEdits(maps=[self])

    def applies(self, site: Site) -> bool:
        """Tells whether a site is one of the layers."""
        return site.layer.name in self.layers

    def __call__(self, site: Site, maps: "Tensor") -> "Tensor":
        """Keeps the words' maps of each branch, of all maps nbhqk."""
        for branch, words_bt in self.words.items():
            looked = maps[site.branches.index(branch)] @ words_bt.to(maps)[:, None, :, None]
            kept = self.maps.setdefault(branch, [])
            kept.append(looked.squeeze(-1).unflatten(-1, site.size).float())
        return maps

    def take(self, branch: str) -> "Tensor":
        """Returns the mean map byx of all heads and layers, and forgets them."""
        import torch

        return torch.cat(self.maps.pop(branch), dim=1).mean(dim=1)


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
