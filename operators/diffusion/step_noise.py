"""Noise of a step: sigma in equation 12 of "Denoising Diffusion Implicit Models", arXiv 2010.02502.

A step is DDIM's mean for a spread `sigma`, and what is added to it: nothing, fresh noise, or what
an inversion has kept of the source.

Shapes: b rows, s steps, c latent channels, h and w latent pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from overpaint.operators.diffusion.schedule import Step

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class StepNoise(Protocol):
    """Noise of the steps of a run."""

    def sigma(self, step: Step) -> float:
        """Returns the spread that the step's mean leaves room for."""
        ...

    def add(self, mean_bchw: "Tensor", step: Step) -> "Tensor":
        """Returns the latents after a step, from its mean."""
        ...


@dataclass(frozen=True, slots=True)
class NoNoise:
    """Steps without noise: DDIM's own."""

    def sigma(self, step: Step) -> float:
        """Returns 0."""
        del step
        return 0.0

    def add(self, mean_bchw: "Tensor", step: Step) -> "Tensor":
        """Returns the mean as it is."""
        del step
        return mean_bchw


NONE = NoNoise()
"""Steps without noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FreshNoise:
    """Fresh noise in each step, of each row's own generator.

    Attributes:
        generators: one for each row.
        eta: 0 is DDIM, 1 has the spread of DDPM.
    """

    generators: "Sequence[torch.Generator]"
    eta: float = 1.0

    def sigma(self, step: Step) -> float:
        """Returns DDIM's spread for `eta`."""
        return ddim_sigma(step, self.eta)

    def add(self, mean_bchw: "Tensor", step: Step) -> "Tensor":
        """Returns the mean with noise."""
        from overpaint.operators.diffusion.latents import draw_noise

        return mean_bchw + self.sigma(step) * draw_noise(self.generators, mean_bchw)


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptResiduals:
    """The residuals that an inversion has kept: source latents less the mean of their step.

    Residuals need no division by sigma, as noise maps do, so that the last one is kept too and the
    source comes back exactly.

    Attributes:
        residuals_sbchw: of every step of the schedule.
        eta: that of the inversion.
    """

    residuals_sbchw: "Tensor"
    eta: float = 1.0

    def sigma(self, step: Step) -> float:
        """Returns DDIM's spread for `eta`."""
        return ddim_sigma(step, self.eta)

    def add(self, mean_bchw: "Tensor", step: Step) -> "Tensor":
        """Returns the mean with the step's residual."""
        return mean_bchw + self.residuals_sbchw[step.index]


def ddim_sigma(step: Step, eta: float) -> float:
    """Returns sigma of a step, equation 16 of arXiv 2010.02502; `eta` 1 is that of DDPM."""
    if eta == 0.0:
        return 0.0
    share = (1.0 - step.alpha_bar_next) / (1.0 - step.alpha_bar)
    return eta * (share * max(1.0 - step.alpha_bar / step.alpha_bar_next, 0.0)) ** 0.5
