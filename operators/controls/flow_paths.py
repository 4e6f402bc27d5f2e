"""Ways along a rectified flow, between noise and a picture, in either direction.

Shapes: b rows, c latent channels, h and w latent pixels.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Velocity = Callable[["Tensor", float], "Tensor"]
"""Velocity bchw, noise less source, of latents at a level."""


def fireflow_path(
    latents_bchw: "Tensor",
    sigmas: Sequence[float],
    velocity: Velocity,
    keep: "Callable[[Tensor, int], Tensor] | None" = None,
) -> "list[Tensor]":
    """Walks levels by FireFlow's solver (arXiv 2412.07517, algorithm 1); returns all latents.

    Each step goes by the velocity in its middle, for which the velocity of the step before is taken
    to get there: a solver of second order for one evaluation a step, and one more.

    Args:
        latents_bchw: at the first level.
        sigmas: levels, 0 (source) to 1 (noise), falling or rising.
        velocity: guided velocity.
        keep: corrects the latents after a step, by its place among the levels.
    """
    path = [latents_bchw]
    middle = velocity(latents_bchw, sigmas[0])
    for place, (sigma, following) in enumerate(pairwise(sigmas), start=1):
        half = (following - sigma) / 2
        middle = velocity(path[-1] + half * middle, sigma + half)
        walked = path[-1] + (following - sigma) * middle
        path.append(walked if keep is None else keep(walked, place))
    return path


def steered_path(
    latents_bchw: "Tensor",
    sigmas: Sequence[float],
    velocity: Velocity,
    towards: "Callable[[Tensor, float], Tensor]",
    share: Callable[[int], float],
    keep: "Callable[[Tensor, int], Tensor] | None" = None,
) -> "Tensor":
    """Walks levels by Euler's method under a controller; returns the last latents.

    RF-Inversion (arXiv 2410.10792, equations 8 and 15): the velocity is drawn to that which would
    lead straight to known latents.

    Args:
        latents_bchw: at the first level.
        sigmas: levels, 0 (source) to 1 (noise), falling or rising.
        velocity: guided velocity.
        towards: velocity that leads straight from latents at a level to the known ones.
        share: weight of that velocity, 0 to 1, in a step by its index.
        keep: corrects the latents after a step, by its place among the levels.
    """
    for index, (sigma, following) in enumerate(pairwise(sigmas)):
        free = velocity(latents_bchw, sigma)
        drawn = free.lerp(towards(latents_bchw, sigma), share(index))
        walked = latents_bchw + (following - sigma) * drawn
        latents_bchw = walked if keep is None else keep(walked, index + 1)
    return latents_bchw
