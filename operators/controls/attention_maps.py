"""Distance of cross-attention maps: where words look in the edit, against where they did before.

Shapes: n branches, b rows, h heads, q queries, k keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.attention import AttentionEdits, Site

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


def map_distance(source: "Mapping[str, Tensor]", edited: "Mapping[str, Tensor]") -> "Tensor":
    """Returns each row's squared distance of maps bhqk: the mean of heads, summed over the rest."""
    import torch

    distances = [
        (maps.float() - source[name].detach().float()).square().mean(dim=1).sum(dim=(1, 2))
        for name, maps in edited.items()
    ]
    return torch.stack(distances).sum(dim=0)
