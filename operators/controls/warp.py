"""Warps that drags ask for: each row's own shift and scale.

One drag is a shift, by as much as it says. Several are the shift and the scale that fit them best:
the scale is the ratio of the spreads of their ends about the means of those, and the mean of the
starts goes to the mean of the ends.

Shapes: b rows, c channels, h and w latent pixels or places of a feature.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.batch import Batch
from overpaint.pipeline.conditions import POINTS
from overpaint.pipeline.errors import RowError

if TYPE_CHECKING:
    from torch import Tensor

_LIMIT = 16.0
"""Most that a warp enlarges or shrinks."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Warp:
    """A shift and scale of each row's picture, for tensors of any resolution.

    A place p goes to `scale x p + shift`, in units in which a picture is 0 to 1 wide and high.

    Attributes:
        scale_b: factor.
        shift_b2: to the right and downwards.
    """

    scale_b: "Tensor"
    shift_b2: "Tensor"

    @property
    def inverse(self) -> "Warp":
        """The warp back."""
        return Warp(scale_b=1.0 / self.scale_b, shift_b2=-self.shift_b2 / self.scale_b[:, None])

    def __call__(
        self, tensor_bchw: "Tensor", mode: Literal["bilinear", "nearest"] = "bilinear"
    ) -> "Tensor":
        """Returns a warped tensor, 0 where it shows what was outside."""
        import torch
        from torch.nn import functional

        back = self.inverse
        offset = back.scale_b[:, None] - 1.0 + 2.0 * back.shift_b2
        rows = torch.eye(2).to(offset) * back.scale_b[:, None, None]
        theta = torch.cat([rows, offset[:, :, None]], dim=2)
        size = list(tensor_bchw.shape)
        grid = functional.affine_grid(theta.to(tensor_bchw), size, align_corners=False)
        return functional.grid_sample(tensor_bchw, grid, mode=mode, align_corners=False)


_STILL = np.zeros((1, 4))
"""Points of a row whose object stays."""


def warp_of(batch: Batch, *, is_needed: bool = True) -> Warp:
    """Returns the warp that each row's points ask for.

    Args:
        batch: rows.
        is_needed: False lets rows without points stay as they are.

    Raises:
        RowError: `points_missing`: a row has none, and they are needed.
    """
    import torch

    fitted: list[tuple[float, NDArray[np.float64]]] = []
    for request in batch.requests:
        height_px, width_px = request.picture.shape[:2]
        points: Any = request.values.get(POINTS.name)
        if not is_needed and (points is None or not len(points)):
            points = _STILL
        fitted.append(fit_warp(points, (width_px, height_px)))
    scales = torch.tensor([scale for scale, _ in fitted], dtype=torch.float32)
    shifts = torch.from_numpy(np.stack([shift for _, shift in fitted])).float()
    device = batch.model.device
    return Warp(scale_b=scales.to(device), shift_b2=shifts.to(device))


def fit_warp(
    points: NDArray[np.float64], size_px: tuple[int, int]
) -> tuple[float, NDArray[np.float64]]:
    """Fits scale and shift to points, in units of the picture's width and height.

    Args:
        points: from x, from y, to x, to y, in pixels; at least one.
        size_px: width and height of the picture.

    Raises:
        RowError: `points_missing`: there are none.
    """
    if not len(points):
        raise RowError("points_missing", "the row has no points")
    start, end = points[:, :2], points[:, 2:]
    start_mean, end_mean = start.mean(axis=0), end.mean(axis=0)
    spread = np.square(start - start_mean).sum()
    ratio = np.square(end - end_mean).sum() / spread if spread else 1.0
    scale = float(np.clip(np.sqrt(ratio), 1.0 / _LIMIT, _LIMIT))
    return scale, (end_mean - scale * start_mean) / np.array(size_px)
