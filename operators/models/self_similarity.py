"""Vision transformers such as DINOv2: the direction of a picture, and the structure of its parts.

Structure is the self-similarity of the keys of the last layer: the cosine of each token's key with
every other's (Splice, "Splicing ViT Features for Semantic Appearance Transfer", arXiv 2201.00424).
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from overpaint.operators.models.pretrained import device, quietly, torch_dtype
from overpaint.operators.models.weights import Checkpoint
from PIL import Image

if TYPE_CHECKING:
    import torch

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_KEYS = ("k_proj", "key")
"""Names of the projections to keys in transformers' vision models."""
_LEAST_NORM = 1e-8


@dataclass(frozen=True, slots=True)
class Structure:
    """Tokens of one picture.

    Attributes:
        direction_d: class token after the last layer, of length 1.
        keys_td: keys of the last layer, class token and registers included, each of length 1.
    """

    direction_d: "torch.Tensor"
    keys_td: "torch.Tensor"

    def similarity(self, other: "Structure") -> float:
        """Returns the cosine of both class tokens, -1 to 1."""
        return float(self.direction_d @ other.direction_d)

    def distance(self, other: "Structure") -> float:
        """Returns the mean squared difference of both self-similarities, 0 to 4."""
        apart = self.keys_td @ self.keys_td.T - other.keys_td @ other.keys_td.T
        return float(apart.square().mean())


@dataclass(frozen=True, slots=True)
class StructureModel:
    """A vision transformer on this actor's device.

    Attributes:
        model: a model of transformers with a class token, such as Dinov2Model or ViTModel.
        keys: its last projection to keys.
    """

    model: Any
    keys: Any


def load(checkpoint: Checkpoint) -> StructureModel:
    """Loads a vision transformer.

    Raises:
        ValueError: the checkpoint's layers have no projection to keys.
    """
    from transformers import AutoModel

    with quietly():
        model: Any = AutoModel.from_pretrained(
            checkpoint.path, dtype=torch_dtype(checkpoint.dtype), **checkpoint.weight_options()
        )
    keys = [part for name, part in model.named_modules() if name.rsplit(".", 1)[-1] in _KEYS]
    if not keys:
        raise ValueError(
            f"{checkpoint.field} = {checkpoint.name!r} is a {type(model).__name__}, whose layers "
            "have no keys: give a vision transformer such as facebook/dinov2-base"
        )
    return StructureModel(model.eval().to(device()), keys[-1])


def side_of(loaded: StructureModel, side_px: int) -> int:
    """Returns the side of the square that the model sees: the largest of whole patches."""
    patch_px: int = loaded.model.config.patch_size
    return max(1, side_px // patch_px) * patch_px


def square(
    loaded: StructureModel, image: Image.Image, side_px: int, resample: Image.Resampling
) -> Image.Image:
    """Squeezes an RGB image to the square that the model sees."""
    side = side_of(loaded, side_px)
    return image.resize((side, side), resample)


def structures(
    loaded: StructureModel, squares: Sequence[Image.Image], *, normalize: bool, top: float
) -> list[Structure]:
    """Returns the structure of each picture.

    Args:
        loaded: loaded model.
        squares: RGB pictures of one size.
        normalize: whether ImageNet's mean and standard deviation are taken out.
        top: value of white before that, 1 or 255.
    """
    import numpy as np
    import torch

    model = loaded.model
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in squares]))
    pixels = pixels.permute(0, 3, 1, 2).float() * (top / 255)
    if normalize:
        mean, std = (torch.tensor(values)[:, None, None] for values in (_MEAN, _STD))
        pixels = (pixels - mean) / std
    kept: list[torch.Tensor] = []
    hook = loaded.keys.register_forward_hook(lambda _part, _given, keys: kept.append(keys))
    more = {}
    if "interpolate_pos_encoding" in inspect.signature(model.forward).parameters:
        more = {"interpolate_pos_encoding": True}
    try:
        with torch.inference_mode():
            output = model(pixel_values=pixels.to(model.device, model.dtype), **more)
    finally:
        hook.remove()
    first = output.last_hidden_state[:, 0].float().cpu()
    return [
        Structure(_unit(direction), _unit(keys))
        for direction, keys in zip(first, kept[-1].float().cpu(), strict=True)
    ]


def _unit(vectors: "torch.Tensor") -> "torch.Tensor":
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(_LEAST_NORM)
