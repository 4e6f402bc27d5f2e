"""Solvers of x = f(x) for a batch of unrelated rows; each calls f once more than it iterates.

Shapes: b rows, k iterates; the rest of a value's shape is its own.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]
"""Maps every row of a batch to the next iterate."""

_REGULARISATION = 1e-10


def plain(function: Map, start_b: Tensor, iterations: int) -> Tensor:
    """Applies the map again and again (fixed-point inversion, arXiv 2312.12540)."""
    value = function(start_b)
    for _ in range(iterations):
        value = function(value)
    return value


def averaged(function: Map, start_b: Tensor, iterations: int) -> Tensor:
    """Takes the mean of the last two images ("AIDI_E", arXiv 2309.04907)."""
    value = image = function(start_b)
    for _ in range(iterations):
        before, image = image, function(value)
        value = (before + image) / 2
    return value


def anderson(function: Map, start_b: Tensor, iterations: int, window: int) -> Tensor:
    """Mixes the last images so that their residuals cancel ("AIDI_A", arXiv 2309.04907).

    Weights are each row's own; the code beside the paper flattens the whole batch into one vector.

    Args:
        function: map.
        start_b: first iterate.
        iterations: calls after the first.
        window: earlier iterates that are mixed with the last one.
    """
    images = [function(start_b)]
    residuals = [images[0] - start_b]
    value = images[0]
    for _ in range(iterations):
        image = function(value)
        images = [*images, image][-window - 1 :]
        residuals = [*residuals, image - value][-window - 1 :]
        value = _mix(images, _weights(residuals))
    return value


def _weights(residuals: list[Tensor]) -> Tensor:
    """Returns weights bk, of sum 1, that make the weighted residual of each row smallest."""
    rows_bkn = torch.stack([each.flatten(1) for each in residuals], dim=1).double()
    gram_bkk = (rows_bkn[:, :, None] * rows_bkn[:, None]).sum(-1)
    count = len(residuals)
    size_b = gram_bkk.diagonal(dim1=1, dim2=2).mean(dim=1) * _REGULARISATION
    # A row that is at its fixed point has no residuals; equal weights keep it there.
    size_b = size_b.clamp(min=torch.finfo(torch.float64).tiny)
    identity = torch.eye(count, dtype=gram_bkk.dtype, device=gram_bkk.device)
    regular_bkk = gram_bkk + size_b[:, None, None] * identity
    ones_bk1 = gram_bkk.new_ones(len(gram_bkk), count, 1)
    # Without checks: a row that is not finite must not fail the others.
    solved_bk = torch.linalg.solve_ex(regular_bkk / size_b[:, None, None], ones_bk1)[0][..., 0]
    return solved_bk / solved_bk.sum(dim=1, keepdim=True)


def _mix(images: list[Tensor], weights_bk: Tensor) -> Tensor:
    shape = (-1, *[1] * (images[0].dim() - 1))
    parts = [image.double() * weights_bk[:, i].view(shape) for i, image in enumerate(images)]
    return torch.stack(parts).sum(dim=0).to(images[0].dtype)
