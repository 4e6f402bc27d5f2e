"""Features of the decoder's blocks, recorded: what energies of correspondence compare.

Shapes: n branches, b rows, c channels of a feature of h by w places.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.attention import AttentionEdits, Layer, Site
from overpaint.operators.diffusion.batch import Batch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RecordFeatures:
    """Edit that changes nothing, and keeps what some blocks of the decoder give.

    Attributes:
        blocks: names of the blocks.
        features: features bchw, by branch and block.
    """

    blocks: Collection[str]
    features: "dict[tuple[str, str], Tensor]" = field(
        default_factory=dict[tuple[str, str], "Tensor"]
    )

    @property
    def edits(self) -> AttentionEdits:
        """The edits of a call that records."""
        return AttentionEdits(features=[self])

    def applies(self, site: Site) -> bool:
        """Tells whether a site is one of the blocks."""
        return site.layer.name in self.blocks

    def __call__(self, site: Site, feature: "Tensor") -> "Tensor":
        """Keeps the feature nbchw of every branch."""
        for branch, own in zip(site.branches, feature, strict=True):
            self.features[branch, site.layer.name] = own.float()
        return feature


def decoder_blocks(batch: Batch) -> list[Layer]:
    """Returns the blocks of a batch's decoder, coarse to fine."""
    return [layer for layer in batch.model.attention.layers if layer.kind == "block"]
