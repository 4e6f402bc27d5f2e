"""Square patches of latents, copied as drags say.

Shapes: b rows, c channels, h and w latent pixels.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.batch import Batch
from overpaint.pipeline.conditions import POINTS
from overpaint.pipeline.errors import RowError

if TYPE_CHECKING:
    from torch import Tensor

Points = NDArray[np.float64]
"""Drags of a row: from x, from y, to x, to y."""


def latent_points(batch: Batch) -> list[Points]:
    """Returns the points of each row in latent pixels.

    Raises:
        RowError: `points_missing`: a row has none.
    """
    points = [request.values[POINTS.name] for request in batch.requests]
    if not all(len(own) for own in points):
        raise RowError("points_missing", "the row has no points")
    return [own / batch.model.factor_px for own in points]


def part_of(drags: Points, part: int, num_parts: int) -> NDArray[np.int64]:
    """Returns one of the equal parts of drags, in whole latent pixels."""
    start, way = drags[:, :2], drags[:, 2:] - drags[:, :2]
    ends = [start + way * (number / num_parts) for number in (part, part + 1)]
    return np.floor(np.hstack(ends)).astype(np.int64)


def drag_patches(
    latents_chw: "Tensor",
    *,
    left: "Tensor",
    patches: "Tensor",
    radius: int,
    drags: NDArray[np.int64],
) -> "Tensor":
    """Returns the latents of one row with the patch about each start copied to the end.

    All patches are those before any is copied, and lie over what is left behind.

    Args:
        latents_chw: latents.
        left: latents chw to leave behind.
        patches: latents chw to copy.
        radius: half of a patch's side without its middle, in latent pixels.
        drags: starts and ends, in latent pixels.
    """
    dragged = latents_chw.clone()
    places = [_overlap(drag, radius, latents_chw.shape[1:]) for drag in drags.tolist()]
    for start, _ in places:
        dragged[start] = left[start]
    for start, end in places:
        dragged[end] = patches[start]
    return dragged


def _overlap(
    drag: Sequence[int], radius: int, size: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Returns the patch about a start and that about its end, as far as both are inside."""
    start_x, start_y, end_x, end_y = drag
    start, end = [slice(None)], [slice(None)]
    for middle, goal, side in zip((start_y, start_x), (end_y, end_x), size, strict=True):
        low = max(-radius, -middle, -goal)
        length = max(min(radius, side - 1 - middle, side - 1 - goal) - low + 1, 0)
        start.append(slice(middle + low, middle + low + length))
        end.append(slice(goal + low, goal + low + length))
    return tuple(start), tuple(end)
