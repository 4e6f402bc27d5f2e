"""Edits of Local Prompt Mixing (arXiv 2303.11306): places to keep, and one blend.

Shapes: n branches, b rows, h heads, q queries, k keys; c latent channels, h and w latent pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overpaint.operators.controls.sharing import region_at
from overpaint.operators.diffusion.attention import Site
from overpaint.operators.diffusion.state import StepState

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KeepSelfAttention:
    """Edit that gives the branch `text` the source's self-attention of a region, to it and from it.

    Attributes:
        region_b1hw: region, 0 or 1.
        steps: indices of the steps in which the edit applies.
    """

    region_b1hw: "Tensor"
    steps: range

    def applies(self, site: Site) -> bool:
        """Tells whether a site is self-attention below full resolution in one of the steps."""
        layer = site.layer
        return layer.kind == "self" and layer.depth >= 1 and site.step.index in self.steps

    def __call__(self, site: Site, maps: "Tensor") -> "Tensor":
        """Returns maps nbhqk with the source's where a query or a key is in the region."""
        source, text = maps[site.branches.index("source")], maps[site.branches.index("text")]
        inside = region_at(self.region_b1hw, site.size)
        kept = inside[:, None, :, None] | inside[:, None, None, :]
        edited = maps.clone()
        edited[site.branches.index("text")] = source.where(kept, text)
        return edited


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BlendOnce:
    """Hook that in one step holds the latents to the source's outside a segment and its rim.

    Attributes:
        step: index of the step.
        segment: returns the segment b1hw, 0 or 1; a row where it is empty is not blended.
        source_bchw: the source's latents at the level after the step.
    """

    step: int
    segment: "Callable[[], Tensor]"
    source_bchw: "Tensor"

    def __call__(self, latents_bchw: "Tensor", state: StepState) -> "Tensor":
        """Returns the latents with the source's outside the segment."""
        from torch.nn import functional

        if state.step.index != self.step:
            return latents_bchw
        segment = functional.max_pool2d(self.segment(), 3, stride=1, padding=1)
        is_empty = segment.amax(dim=(1, 2, 3), keepdim=True) == 0
        return latents_bchw.where((segment > 0) | is_empty, self.source_bchw)
