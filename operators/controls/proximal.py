"""Proximal guidance (ProxEdit, arXiv 2306.05414): small differences of two predictions are dropped.

Shapes: b rows, c latent channels, h and w latent pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from overpaint.operators.diffusion.schedule import Step
from overpaint.operators.diffusion.state import Guidance, StepState

if TYPE_CHECKING:
    from torch import Tensor

Norm = Literal["l0", "l1"]
"""Norm whose proximal operator is applied: `l0` is a hard threshold, `l1` a soft one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proximal:
    """Guidance by what of the difference between `text` and `negative` is above a threshold.

    Attributes:
        inner: guidance by both predictions.
        norm: norm of the proximal operator.
        quantile: quantile of a row's own absolute differences that is its threshold.
    """

    inner: Guidance
    norm: Norm
    quantile: float

    def __call__(self, state: StepState) -> "Tensor":
        """Returns the guided prediction, bchw."""
        difference, threshold = self.difference(state)
        size = difference.abs()
        if self.norm == "l0":
            kept = difference.where(size > threshold, difference * 0.0)
        else:
            kept = difference.sign() * (size - threshold).clamp_min(0.0)
        text = state.predictions["negative"] + kept
        return self.inner(replace(state, predictions={**state.predictions, "text": text}))

    def difference(self, state: StepState) -> "tuple[Tensor, Tensor]":
        """Returns the difference bchw of the predictions, and the threshold b111 of each row."""
        import torch

        difference = state.predictions["text"] - state.predictions["negative"]
        sizes = difference.abs().flatten(1)
        threshold = torch.quantile(sizes, self.quantile, dim=1)
        return difference, threshold.view(-1, 1, 1, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class InversionGuidance:
    """Hook that pulls the latents to the source where the predictions hardly differ.

    Attributes:
        proximal: guidance that says where they do.
        source: returns the source's latents (bchw) at the level after a step.
        recon_t: timestep, of 1000, below which latents are pulled.
        recon_lr: share of the way.
        dilate_mask: latent pixels by which the places that differ are dilated.
    """

    proximal: Proximal
    source: "Callable[[Step], Tensor]"
    recon_t: int
    recon_lr: float
    dilate_mask: int

    def __call__(self, latents_bchw: "Tensor", state: StepState) -> "Tensor":
        """Returns the latents, pulled outside the dilated places."""
        from torch.nn import functional

        if state.step.timestep >= self.recon_t:
            return latents_bchw
        difference, threshold = self.proximal.difference(state)
        differs = (difference.abs() > threshold).to(latents_bchw.dtype)
        side = 2 * self.dilate_mask + 1
        edited = functional.max_pool2d(differs, side, stride=1, padding=self.dilate_mask)
        pull = self.recon_lr * (1.0 - edited)
        return latents_bchw - pull * (latents_bchw - self.source(state.step))
