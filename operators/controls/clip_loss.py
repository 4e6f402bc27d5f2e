"""Distance of pictures to a text by CLIP, over augmentations, as Blended Diffusion measures it.

CLIP is easily fooled by a picture of its own gradient; augmentations of the picture by random
homographies make that harder (arXiv 2111.14818, section 3.2).

Shapes: b rows, a augmentations of each, d dimensions of CLIP's embedding; H and W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import radians
from typing import TYPE_CHECKING, Any

from overpaint.operators.models import clip
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.weights import Checkpoint

if TYPE_CHECKING:
    from torch import Generator, Tensor

_DEGREES, _SHIFT, _DISTORTION, _CHANCE = 15.0, 0.2, 0.7, 0.7
"""Most rotation; most shift, in half sides; most of a corner's way inwards; chance of either."""


@lru_cache(maxsize=2)
def load_frozen(checkpoint: Checkpoint) -> Pretrained:
    """Loads a CLIP whose weights take no gradient; a second call returns the one loaded."""
    loaded = clip.load(checkpoint)
    loaded.model.requires_grad_(False)
    return loaded


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CLIPDistance:
    """Distance of each row's picture to its text.

    Attributes:
        clip: loaded model, frozen.
        texts_bd: embeddings of the texts, of length 1.
        num_augmentations: pictures of a row that are compared; the first is not changed.
    """

    clip: Pretrained
    texts_bd: "Tensor"
    num_augmentations: int

    def __call__(self, pictures_b3hw: "Tensor", generators: "Sequence[Generator]") -> "Tensor":
        """Returns the mean squared angle of each row, b.

        Args:
            pictures_b3hw: float RGB, -1 to 1.
            generators: each row's own, for its augmentations.
        """
        import torch
        from torch.nn import functional

        side_px: int = self.clip.model.config.vision_config.image_size
        squares = functional.adaptive_avg_pool2d(pictures_b3hw, side_px)
        drawn = [_homographies(self.num_augmentations, generator) for generator in generators]
        grids = [_grid(each, side_px) for each in drawn]
        augmented = [
            functional.grid_sample(
                square.expand(self.num_augmentations, -1, -1, -1),
                grid.to(square),
                padding_mode="border",
                align_corners=False,
            )
            for square, grid in zip(squares, grids, strict=True)
        ]
        images = embed(self.clip, torch.cat(augmented)).unflatten(0, (len(squares), -1))
        chord = (images - self.texts_bd[:, None]).norm(dim=2)
        return (2.0 * (chord / 2.0).arcsin().square()).mean(dim=1)


def embed(loaded: Pretrained, pictures_b3hw: "Tensor") -> "Tensor":
    """Returns the embeddings bd, of length 1, of RGB pictures -1 to 1 of CLIP's size."""
    from torch.nn import functional

    model, processor = loaded.model, loaded.processor.image_processor
    mean, std = (
        pictures_b3hw.new_tensor(values)[:, None, None]
        for values in (processor.image_mean, processor.image_std)
    )
    pixels = ((pictures_b3hw + 1.0) / 2.0 - mean) / std
    features: Any = model.get_image_features(pixel_values=pixels.to(model.dtype))
    return functional.normalize(features.pooler_output.float(), dim=1)


def _homographies(count: int, generator: "Generator") -> "Tensor":
    """Draws homographies a33 from places of an augmentation to places of the picture, -1 to 1."""
    import torch

    draws = torch.rand((count, 13), generator=generator, dtype=torch.float64)
    rotated, distorted = draws[:, 0] < _CHANCE, draws[:, 1] < _CHANCE
    rotated[0] = distorted[0] = False
    angle = radians(_DEGREES) * (2.0 * draws[:, 2] - 1.0) * rotated
    shift = _SHIFT * (2.0 * draws[:, 3:5] - 1.0) * rotated[:, None]
    affine = torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)
    affine[:, 0, 0] = affine[:, 1, 1] = angle.cos()
    affine[:, 0, 1], affine[:, 1, 0] = -angle.sin(), angle.sin()
    affine[:, :2, 2] = shift
    inwards = _DISTORTION * draws[:, 5:].unflatten(1, (4, 2)) * distorted[:, None, None]
    return affine @ _from_corners(inwards)


def _from_corners(inwards_a42: "Tensor") -> "Tensor":
    """Returns homographies a33 that bring corners, moved inwards by a share, back to their place.

    Each of the four pairs of places gives two linear equations of the eight unknowns.
    """
    import torch

    corners = inwards_a42.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    x, y = (corners * (1.0 - inwards_a42)).unbind(2)
    to_x, to_y = corners.expand_as(inwards_a42).unbind(2)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    along_x = torch.stack([x, y, one, zero, zero, zero, -to_x * x, -to_x * y], dim=2)
    along_y = torch.stack([zero, zero, zero, x, y, one, -to_y * x, -to_y * y], dim=2)
    system, wanted = torch.cat([along_x, along_y], dim=1), torch.cat([to_x, to_y], dim=1)
    solved = torch.linalg.solve(system, wanted)
    return torch.cat([solved, one[:, :1]], dim=1).unflatten(1, (3, 3))


def _grid(homographies_a33: "Tensor", side_px: int) -> "Tensor":
    """Returns the places axy2 of a square picture that augmentations see."""
    import torch

    centres = (torch.arange(side_px, dtype=torch.float64) + 0.5) * 2.0 / side_px - 1.0
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    places = torch.stack([x, y, torch.ones_like(x)], dim=-1).flatten(0, 1)
    seen = places @ homographies_a33.transpose(1, 2)
    return (seen[..., :2] / seen[..., 2:]).unflatten(1, (side_px, side_px))
