"""Energies: numbers that say how far an edit is from what is wanted, and the steps that lower them.

The gradient of an energy by the latents is a score beside that of the prompts, as a classifier's is
(arXiv 2105.05233); it can enter both halves of DDIM's step or one of them.

Shapes: b rows, c latent channels, h and w latent pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.schedule import Step
from overpaint.operators.diffusion.state import StepState

if TYPE_CHECKING:
    from torch import Tensor

Half = Literal["x0", "eps", "both"]
"""Halves of DDIM's step: the clean latents, the noise, or both."""


class Energy(Protocol):
    """An energy of the branch `text`: a number for each row, lower where an edit is better."""

    @property
    def edits(self) -> AttentionEdits:
        """The recorders of what the energy compares."""
        ...

    def __call__(self, state: StepState) -> "Tensor":
        """Returns the energies b, each of its own row's latents alone."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyGuidance:
    """Guidance of a run by the gradient of an energy.

    Attributes:
        energy: energy that is lowered.
        scale: factor of the gradient in a step, in units of predicted noise.
        steps: indices of the steps in which it acts.
        into: half of DDIM's step that the gradient enters.
    """

    energy: Energy
    scale: Callable[[Step], float]
    steps: range
    into: Half = "both"

    def shift(
        self, x0_bchw: "Tensor", eps_bchw: "Tensor", gradient_bchw: "Tensor", step: Step
    ) -> "tuple[Tensor, Tensor]":
        """Returns the clean latents and the noise of a step, lower in energy.

        Noise is subtracted on the way to the clean latents, so that more of it along the gradient
        lowers the energy there; alone, it has to be less.
        """
        shift = self.scale(step) * gradient_bchw
        if self.into == "eps":
            return x0_bchw, eps_bchw - shift
        x0 = x0_bchw - ((1.0 - step.alpha_bar) / step.alpha_bar) ** 0.5 * shift
        return x0, eps_bchw + shift if self.into == "both" else eps_bchw
