"""Masking of latents: what must not change is held to the source at every step.

Blended Latent Diffusion (arXiv 2206.02779): after each step the latents outside the mask are set
to the source's at the same noise level. Along the source's own inverted trajectory this reproduces
the source exactly.

Shapes: b rows, c latent channels, h and w latent pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.schedule import Step
from overpaint.operators.diffusion.state import Hook, StepState
from overpaint.pipeline.conditions import STRENGTH_MAP

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class KeepOutside:
    """Hook that holds the latents outside a mask to the source's.

    Attributes:
        mask_b1hw: 1 may change, 0 is kept; a share in between mixes.
        source: returns the source's latents (bchw) at the level after a step.
    """

    mask_b1hw: "Tensor"
    source: "Callable[[Step], Tensor]"

    def __call__(self, latents_bchw: "Tensor", state: StepState) -> "Tensor":
        """Returns the latents with the source's outside the mask."""
        return self.source(state.step).lerp(latents_bchw, self.mask_b1hw)


def keep_outside(batch: Batch) -> KeepOutside:
    """Returns the hook that holds a batch to its noised sources outside the masks.

    A row without a mask may change everywhere.
    """
    source = batch.source
    return KeepOutside(
        mask_b1hw=batch.mask_b1hw, source=lambda step: source.at(step.alpha_bar_next)
    )


def keep_outside_on_trajectory(batch: Batch) -> KeepOutside:
    """Returns the hook that holds a batch to its inverted trajectories outside the masks."""
    trajectory = batch.trajectory_sbchw
    return KeepOutside(mask_b1hw=batch.mask_b1hw, source=lambda step: trajectory[step.index + 1])


def free_by_strength(batch: Batch) -> Hook:
    """Returns the hook that holds each place to the source until its strength comes up."""
    from overpaint.operators.diffusion.latents import latent_masks

    maps = [request.values[STRENGTH_MAP.name] for request in batch.requests]
    strength_b1hw = latent_masks(maps, batch.source_latents)

    def hold(latents_bchw: "Tensor", state: StepState) -> "Tensor":
        walked_share = (state.step.index + 1) / len(batch.steps)
        is_free = strength_b1hw > 1.0 - walked_share
        source = batch.source.at(state.step.alpha_bar_next)
        return source.lerp(latents_bchw, is_free * batch.mask_b1hw)

    return hold
