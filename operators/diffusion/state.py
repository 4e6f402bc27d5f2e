"""The state of a sampling step, as guidance and hooks see it.

Shapes: b rows, c latent channels, h and w latent pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.schedule import Step

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class StepState:
    """One step of a run.

    Attributes:
        step: its level and timestep.
        latents_bchw: latents before the step.
        predictions: the UNet's prediction bchw of each branch that ran, by name.
        x0_bchw: clean latents by the guided prediction; None while guidance is computed.
        eps_bchw: noise by the guided prediction; None while guidance is computed.
    """

    step: Step
    latents_bchw: "Tensor"
    predictions: "Mapping[str, Tensor]"
    x0_bchw: "Tensor | None" = None
    eps_bchw: "Tensor | None" = None


Guidance = Callable[[StepState], "Tensor"]
"""Makes of the predictions of all branches the one (bchw) that the step follows."""

Hook = Callable[["Tensor", StepState], "Tensor"]
"""Corrects the latents (bchw) after a step."""
