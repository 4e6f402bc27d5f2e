"""Energy of the attention to words that are to be forgotten: MagicRemover's (arXiv 2310.02848).

Shapes: b rows, h and w latent pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overpaint.operators.controls.words import RecordWords
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.schedule import Step
from overpaint.operators.diffusion.state import StepState

if TYPE_CHECKING:
    from torch import Tensor

_PEAK = 15.0
"""Greatest attention of the first step, to which all are scaled; 15 in public code."""


@dataclass(eq=False, kw_only=True, slots=True)
class Erase:
    """Energy that is low where the words of the branch `text` are attended to no more.

    Attributes:
        words: recorder of the words' attention.
        size: rows and columns of the latents.
        quantile: share of the places that are not among those most attended to.
        unit_b111: factor of each row's attention; None before the first step.
        region_b1hw: places most attended to in the last step; None before the first.
    """

    words: RecordWords
    size: tuple[int, int]
    quantile: float
    unit_b111: "Tensor | None" = None
    region_b1hw: "Tensor | None" = None

    @property
    def edits(self) -> AttentionEdits:
        """The recorder of the attention."""
        return self.words.edits

    def __call__(self, state: StepState) -> "Tensor":
        """Returns the energies b."""
        del state
        attention = self.words.mean("text", self.size)
        rows = attention.detach().flatten(1)
        if self.unit_b111 is None:
            self.unit_b111 = _PEAK / rows.amax(dim=1).clamp_min(1e-8).view(-1, 1, 1, 1)
        least = rows.quantile(self.quantile, dim=1).view(-1, 1, 1, 1)
        self.region_b1hw = (attention.detach() >= least).float()
        attention = attention * self.unit_b111
        above = attention - attention.amin(dim=(1, 2, 3), keepdim=True)
        return (self.region_b1hw * above).square().mean(dim=(1, 2, 3))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KeepOutsideErased:
    """Hook that holds the latents to the source's outside an object and what is being erased.

    Attributes:
        energy: energy whose region may change.
        object_b1hw: object in the source, 0 or 1.
        mask_b1hw: share that may change at all.
        source: returns the source's latents bchw at the level after a step.
    """

    energy: Erase
    object_b1hw: "Tensor"
    mask_b1hw: "Tensor"
    source: "Callable[[Step], Tensor]"

    def __call__(self, latents_bchw: "Tensor", state: StepState) -> "Tensor":
        """Returns the latents with the source's outside."""
        region = self.energy.region_b1hw
        erased = self.object_b1hw if region is None else self.object_b1hw.maximum(region)
        return self.source(state.step).lerp(latents_bchw, erased * self.mask_b1hw)
