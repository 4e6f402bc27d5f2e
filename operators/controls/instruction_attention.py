"""Places that an instruction editor's words leave alone, by its cross-attention: ZONE's mask.

The token that starts an instruction is attended to where nothing is to change; where the one that
ends it is attended to about as much, the instruction acts (arXiv 2312.16794).

Shapes: n branches, b rows, h heads, q places, k tokens; h and w rows and columns of a grid.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.attention import AttentionEdits, Site

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RecordEnds:
    """Edit that changes nothing, and adds up the attention to both ends of each instruction.

    Attributes:
        last_b: place of the token that ends each instruction.
        layers: names of the layers.
        totals: sums over steps, heads averaged, b2hw for the first and the last token, by layer.
    """

    last_b: "Tensor"
    layers: frozenset[str]
    totals: "dict[str, Tensor]" = field(default_factory=dict[str, "Tensor"])

    @property
    def edits(self) -> AttentionEdits:
        """The edits of a call that records."""
        return AttentionEdits(maps=[self])

    def applies(self, site: Site) -> bool:
        """Tells whether a site is one of the layers."""
        return site.layer.name in self.layers

    def __call__(self, site: Site, maps: "Tensor") -> "Tensor":
        """Adds the attention nbhqk of the branch `text` to the tokens."""
        import torch

        seen = maps[site.branches.index("text")].float().mean(dim=1)
        last = self.last_b[:, None, None].expand(-1, seen.shape[1], 1)
        ends = torch.cat([seen[..., :1], seen.gather(2, last)], dim=2)
        kept = ends.transpose(1, 2).unflatten(2, site.size)
        self.totals[site.layer.name] = kept + self.totals.get(site.layer.name, 0.0)
        return maps

    def heat(self, threshold: int) -> "Tensor":
        """Returns places in units of the threshold, b1hw: above 1 the instruction acts.

        Args:
            threshold: of 255, for twice the difference of both maps, each in units of its maximum.
        """
        import torch

        ends = torch.stack(list(self.totals.values())).sum(dim=0)
        ends = ends / ends.amax(dim=(2, 3), keepdim=True).clamp_min(1e-12)
        kept = 2.0 * 255.0 * (ends[:, :1] - ends[:, 1:]).clamp_min(0.0)
        # The share of the threshold that is left: 1 where the difference reaches the threshold.
        return 2.0 - kept / threshold
