"""Linear interpolation as products of matrices, whose gradients repeat to the last digit on a GPU.

PyTorch's own sampling adds gradients by atomic operations there, in an order that changes.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def resized(tensor_bchw: "Tensor", size: tuple[int, int]) -> "Tensor":
    """Returns a tensor of another height and width, pixels' middles aligned at the outer edges."""
    rows, columns = (
        _hats(_middles(new, old, tensor_bchw), old)
        for new, old in zip(size, tensor_bchw.shape[2:], strict=True)
    )
    return rows @ tensor_bchw @ columns.T


def sampled(feature_bchw: "Tensor", places_bms2: "Tensor") -> "Tensor":
    """Returns features bcms at places x and y in pixels, those outside taken at the edge."""
    import torch

    height, width = feature_bchw.shape[2:]
    flat = places_bms2.flatten(1, 2)
    columns, rows = (
        _hats(flat[..., axis].clamp(0, side - 1), side) for axis, side in enumerate((width, height))
    )
    found = torch.einsum("bchw,bph,bpw->bcp", feature_bchw, rows, columns)
    return found.unflatten(2, (places_bms2.shape[1], places_bms2.shape[2]))


def _middles(new: int, old: int, like: "Tensor") -> "Tensor":
    """Returns where the middles of new pixels lie among the old ones, in old pixels."""
    import torch

    places = torch.arange(new, device=like.device, dtype=like.dtype)
    return ((places + 0.5) * (old / new) - 0.5).clamp(0, old - 1)


def _hats(places: "Tensor", side: int) -> "Tensor":
    """Returns the weight of each of `side` pixels at each place, along a new last dimension."""
    import torch

    pixels = torch.arange(side, device=places.device, dtype=places.dtype)
    return (1.0 - (places[..., None] - pixels).abs()).clamp_min(0.0)
