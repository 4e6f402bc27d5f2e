"""Motion supervision and point tracking on features: DragGAN's, as DragDiffusion uses them.

Points are in pixels of the feature's grid, x before y.

Shapes: b rows, m points, s places of a patch, c channels of a feature of h by w places.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from overpaint.operators.controls.linear_sampling import sampled

if TYPE_CHECKING:
    from torch import Tensor

REACHED_PX = 2.0
"""Distance to its target at which a point has arrived; 2 in the official code."""


@dataclass(eq=False, kw_only=True, slots=True)
class PointTracks:
    """Points of each row on their way to their targets.

    Attributes:
        start_bm2: first places.
        target_bm2: places to reach.
        place_bm2: places now.
        r_m: half of the side of a supervised patch, without its middle.
        r_p: half of the side of the window that is searched, without its middle.
    """

    start_bm2: "Tensor"
    target_bm2: "Tensor"
    place_bm2: "Tensor"
    r_m: int
    r_p: int

    @property
    def way_bm(self) -> "Tensor":
        """The distances to the targets."""
        return (self.target_bm2 - self.place_bm2).norm(dim=2)

    @property
    def is_moving_b(self) -> "Tensor":
        """True for rows of which a point has not arrived."""
        return (self.way_bm >= REACHED_PX).any(dim=1)

    def motion(self, feature_bchw: "Tensor") -> "Tensor":
        """Returns the loss b: patches of moving points belong a pixel nearer to the target."""
        way = self.way_bm
        ahead = (self.target_bm2 - self.place_bm2) / way.clamp_min(1e-7)[:, :, None]
        offsets = _window(self.r_m, feature_bchw)
        here = sampled(feature_bchw.detach(), self.place_bm2[:, :, None] + offsets)
        there = sampled(feature_bchw, (self.place_bm2 + ahead)[:, :, None] + offsets)
        distance = (there - here).abs().mean(dim=(1, 3)) * len(offsets)
        return (distance * (way >= REACHED_PX)).sum(dim=1)

    def track(self, first_bchw: "Tensor", feature_bchw: "Tensor") -> None:
        """Moves the points of rows under way to where the first feature of each is nearest."""
        import torch

        size = feature_bchw.new_tensor([feature_bchw.shape[3] - 1, feature_bchw.shape[2] - 1])
        around = self.place_bm2.floor()[:, :, None] + _window(self.r_p, feature_bchw)
        around = around.clamp_min(0.0).minimum(size)
        wanted = sampled(first_bchw, self.start_bm2[:, :, None])
        distance = (sampled(feature_bchw, around) - wanted).abs().sum(dim=1)
        nearest = distance.argmin(dim=2)[:, :, None, None].expand(-1, -1, 1, 2)
        found = torch.gather(around, 2, nearest)[:, :, 0]
        self.place_bm2 = found.where(self.is_moving_b[:, None, None], self.place_bm2)


def _window(radius: int, like: "Tensor") -> "Tensor":
    """Returns the offsets s2 of a square window, row by row."""
    import torch

    side = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    y, x = torch.meshgrid(side, side, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)
