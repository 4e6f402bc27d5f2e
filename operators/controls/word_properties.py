"""Properties of an object that its words' attention shows: Self-Guidance's (arXiv 2306.00986).

Shapes: b rows, c channels of a feature, h and w latent pixels.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from overpaint.operators.controls.features import RecordFeatures
from overpaint.operators.controls.linear_sampling import resized
from overpaint.operators.controls.warp import Warp
from overpaint.operators.controls.words import RecordWords
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.state import StepState

if TYPE_CHECKING:
    from torch import Tensor

SHARPNESS = 10.0
"""Slope of the threshold of attention; 10 in public code."""


class PropertyWeights(NamedTuple):
    """Weights of the terms of the energy.

    Attributes:
        centroid: distance of the object's middle from the one wanted.
        size: distance of the object's size from the one wanted.
        shape: distance of the object's outline from the one wanted.
        appearance: distance of the object's mean feature from the source's.
        inside: share of the attention that is outside the object's region, squared.
    """

    centroid: float
    size: float
    shape: float
    appearance: float
    inside: float


class Properties(NamedTuple):
    """Properties of an object.

    Attributes:
        centroid_b2: middle, in shares of the picture's width and height.
        size_b: share of the picture.
        shape_b1hw: soft outline, 0-1.
        appearance_bc: mean feature.
    """

    centroid_b2: "Tensor"
    size_b: "Tensor"
    shape_b1hw: "Tensor"
    appearance_bc: "Tensor"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WordProperties:
    """Energy that is low where an object has the source's properties, warped.

    Attributes:
        words: recorder of the words' attention, of the branches `text` and `source`.
        features: recorder of the decoder's last block.
        warp: warp of the object.
        region_b1hw: place where the words' attention is wanted.
        weights: weights of the terms.
        in_source_b: 1 where the source has the object, else 0: it has no properties then.
        has_region_b: 1 where a row has a region, else 0.
    """

    words: RecordWords
    features: RecordFeatures
    warp: Warp
    region_b1hw: "Tensor"
    weights: PropertyWeights
    in_source_b: "Tensor"
    has_region_b: "Tensor"

    @property
    def edits(self) -> AttentionEdits:
        """The recorders of attention and features."""
        return self.words.edits.then(self.features.edits)

    def __call__(self, state: StepState) -> "Tensor":
        """Returns the energies b."""
        del state
        size = (self.region_b1hw.shape[2], self.region_b1hw.shape[3])
        attention = self.words.mean("text", size)
        own = self._properties("text", attention)
        source = self._properties("source", self.words.mean("source", size))
        wanted = self._wanted(source)
        by = self.weights
        energy = (
            by.centroid * (own.centroid_b2 - wanted.centroid_b2).abs().sum(dim=1)
            + by.size * (own.size_b - wanted.size_b).abs()
            + by.shape * (own.shape_b1hw - wanted.shape_b1hw).abs().mean(dim=(1, 2, 3))
            + by.appearance * (own.appearance_bc - wanted.appearance_bc).abs().mean(dim=1)
        )
        inside = share_inside(attention, self.region_b1hw)
        return self.in_source_b * energy + self.has_region_b * by.inside * (1.0 - inside).square()

    def _properties(self, branch: str, attention_b1hw: "Tensor") -> Properties:
        (block,) = self.features.blocks
        return properties(attention_b1hw, self.features.features[branch, block])

    def _wanted(self, source: Properties) -> Properties:
        """Returns the source's properties after the warp, constants."""
        scale = self.warp.scale_b
        return Properties(
            centroid_b2=(scale[:, None] * source.centroid_b2 + self.warp.shift_b2).detach(),
            size_b=(scale.square() * source.size_b).detach(),
            shape_b1hw=self.warp(source.shape_b1hw).detach(),
            appearance_bc=source.appearance_bc.detach(),
        )


def properties(attention_b1hw: "Tensor", feature_bchw: "Tensor") -> Properties:
    """Returns the properties that attention to an object's words and features show."""
    import torch

    height, width = attention_b1hw.shape[2:]
    shape = _stretched(torch.sigmoid(SHARPNESS * (_stretched(attention_b1hw) - 0.5)))
    x = (torch.arange(width, device=shape.device) + 0.5) / width
    y = (torch.arange(height, device=shape.device) + 0.5) / height
    middles = [attention_b1hw * x, attention_b1hw * y[:, None]]
    total = attention_b1hw.sum(dim=(1, 2, 3)).clamp_min(1e-8)
    grid = (feature_bchw.shape[2], feature_bchw.shape[3])
    weight = resized(shape, grid)
    mean = (weight * feature_bchw).sum(dim=(2, 3)) / weight.sum(dim=(2, 3)).clamp_min(1e-8)
    return Properties(
        centroid_b2=torch.stack([middle.sum(dim=(1, 2, 3)) / total for middle in middles], dim=1),
        size_b=shape.mean(dim=(1, 2, 3)),
        shape_b1hw=shape,
        appearance_bc=mean,
    )


def share_inside(attention_b1hw: "Tensor", region_b1hw: "Tensor") -> "Tensor":
    """Returns the share b of the attention that is in a region."""
    inside = (attention_b1hw * region_b1hw).sum(dim=(1, 2, 3))
    return inside / attention_b1hw.sum(dim=(1, 2, 3)).clamp_min(1e-8)


def _stretched(values_b1hw: "Tensor") -> "Tensor":
    """Returns values whose least and greatest of each row are 0 and 1."""
    low = values_b1hw.amin(dim=(1, 2, 3), keepdim=True)
    high = values_b1hw.amax(dim=(1, 2, 3), keepdim=True)
    return (values_b1hw - low) / (high - low).clamp_min(1e-8)
