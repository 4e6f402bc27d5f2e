"""Keeps what must not change, step by step.

Blended Latent Diffusion (arXiv 2206.02779): after each step the latents outside the mask are set
to the source's at the same noise level. Along the source's own inverted path this reproduces it
exactly.

Shapes: b rows, c latent channels, y and x latent pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from overpaint.operators.diffusion.schedule import Step
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class KeepOutside:
    """The hook that holds the latents outside a mask to the source's.

    Attributes:
        mask_b1yx: 1 may change, 0 is kept; a share in between mixes.
        source: the source's latents (bcyx) after a step.
    """

    mask_b1yx: Tensor
    source: Callable[[Step], Tensor]

    def __call__(self, latents_bcyx: Tensor, step: Step) -> Tensor:
        """The latents with the source's outside the mask."""
        return torch.lerp(self.source(step), latents_bcyx, self.mask_b1yx)


@dataclass(frozen=True, kw_only=True, slots=True)
class NoisedSource:
    """The source's latents with one fixed noise a row, at the level after any step.

    Attributes:
        clean_bcyx: the source's latents.
        noise_bcyx: unit noise.
    """

    clean_bcyx: Tensor
    noise_bcyx: Tensor

    def at(self, alpha: float) -> Tensor:
        """Latents at a noise level."""
        return alpha**0.5 * self.clean_bcyx + (1.0 - alpha) ** 0.5 * self.noise_bcyx

    def __call__(self, step: Step) -> Tensor:
        """Latents at the level after a step."""
        return self.at(step.alpha_next)
