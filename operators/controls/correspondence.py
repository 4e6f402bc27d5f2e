"""Energy of corresponding features: DragonDiffusion's (arXiv 2307.02421), for moving and resizing.

Similarities are (cos + 1) / 2, as in the paper, and means over soft regions of each row.

Shapes: b rows, c channels of a feature of h by w places.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from overpaint.operators.controls.dragging import Dragged
from overpaint.operators.controls.features import RecordFeatures
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.state import StepState

if TYPE_CHECKING:
    from torch import Tensor


class Weights(NamedTuple):
    """Weights of the terms of the energy.

    Attributes:
        w_edit: likeness of the new place to the warped object.
        w_content: likeness of what is neither old nor new place to the source.
        w_contrast: unlikeness of what the object has left to the object.
        w_inpaint: likeness of what the object has left to its surroundings.
    """

    w_edit: float
    w_content: float
    w_contrast: float
    w_inpaint: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FeatureCorrespondence:
    """Energy that is low where features of `text` are those of `source`, warped.

    Attributes:
        features: recorder of the features.
        drag: object of each row.
        weights: weights of the terms.
    """

    features: RecordFeatures
    drag: Dragged
    weights: Weights

    @property
    def edits(self) -> AttentionEdits:
        """The recorder of the features."""
        return self.features.edits

    def __call__(self, state: StepState) -> "Tensor":
        """Returns the energies b, the mean of the blocks."""
        import torch

        del state
        kept = self.features.features
        energies = [
            self._of_block(kept["text", block], kept["source", block].detach())
            for block in self.features.blocks
        ]
        return torch.stack(energies).mean(dim=0)

    def _of_block(self, edit: "Tensor", source: "Tensor") -> "Tensor":
        """Returns the energies b of one block's features bchw."""
        from torch.nn import functional

        size = (edit.shape[2], edit.shape[3])
        before = functional.adaptive_avg_pool2d(self.drag.before_b1hw, size)
        after = functional.adaptive_avg_pool2d(self.drag.after_b1hw, size)
        rest, left = (1.0 - before) * (1.0 - after), (before - after).clamp_min(0.0)
        same = _similarity(edit, source)
        moved = _mean(_similarity(edit, self.drag.warp(source)), after)
        inpaint = _similarity(_mean(edit, left), _mean(source, rest))
        by = self.weights
        energy = by.w_edit / (1.0 + 4.0 * moved) + by.w_content / (1.0 + 4.0 * _mean(same, rest))
        energy = energy + by.w_contrast * _mean(same, left) + by.w_inpaint / (1.0 + 4.0 * inpaint)
        return energy.flatten()


def _similarity(one: "Tensor", other: "Tensor") -> "Tensor":
    """Returns how alike features bchw are, b1hw, 0 to 1."""
    from torch.nn import functional

    return (functional.cosine_similarity(one, other, dim=1)[:, None] + 1.0) / 2.0


def _mean(values: "Tensor", region_b1hw: "Tensor") -> "Tensor":
    """Returns the means over each row's own region of values bchw, bc11; 0 where it is empty."""
    weight = region_b1hw.sum(dim=(2, 3), keepdim=True).clamp_min(1e-3)
    return (values * region_b1hw).sum(dim=(2, 3), keepdim=True) / weight
