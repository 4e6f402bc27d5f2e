"""Objects that are dragged: found, warped to their new place, and the regions that this makes.

Shapes: b rows, c latent channels, h and w latent pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from overpaint.operators.controls.masking import KeepOutside
from overpaint.operators.controls.warp import Warp
from overpaint.operators.controls.words import object_by_words
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.state import StepState
from overpaint.operators.diffusion.step_noise import ddim_sigma
from overpaint.pipeline.errors import RowError

if TYPE_CHECKING:
    from torch import Generator, Tensor

ObjectFrom = Literal["mask", "words"]
"""Places of the dragged object before the edit.

- `mask`: those of the mask whose new place is in the mask too: the mask covers both places
- `words`: those that the words of `mask_phrase` attend to in the source
"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Dragged:
    """An object of each row and its new place.

    Attributes:
        warp: warp from the old place to the new one.
        before_b1hw: share of the object in each latent pixel, before.
        after_b1hw: the same after the warp.
    """

    warp: Warp
    before_b1hw: "Tensor"
    after_b1hw: "Tensor"

    @property
    def either_b1hw(self) -> "Tensor":
        """The old and the new place."""
        return self.before_b1hw.maximum(self.after_b1hw)

    def moved(self, latents_bchw: "Tensor") -> "Tensor":
        """Returns noisy latents with the object's copied to its new place, nearest neighbours."""
        return self.warp(latents_bchw, "nearest").where(self.after_b1hw > 0.5, latents_bchw)


def dragged(batch: Batch, warp: Warp, object_from: ObjectFrom) -> Dragged:
    """Finds the object of each row.

    Raises:
        RowError: `mask_missing`, `mask_phrase_missing` or `phrase_not_in_prompt`.
    """
    if object_from == "words":
        before = object_by_words(batch)
    else:
        if any(request.mask is None for request in batch.requests):
            raise RowError("mask_missing", "no mask says where the object is and will be")
        before = batch.mask_b1hw * warp.inverse(batch.mask_b1hw)
    return Dragged(warp=warp, before_b1hw=before, after_b1hw=warp(before))


def keep_outside_of_drag(batch: Batch, drag: Dragged) -> KeepOutside:
    """Returns the hook that holds the latents to the inverted trajectory outside what may change.

    That is a row's mask; without one, old and new place of the object and a latent pixel around.
    """
    import torch
    from torch.nn import functional

    around = functional.max_pool2d(drag.either_b1hw, 3, stride=1, padding=1)
    masked = torch.tensor([request.mask is not None for request in batch.requests])
    mask = batch.mask_b1hw.where(masked.view(-1, 1, 1, 1).to(around.device), around)
    trajectory = batch.trajectory_sbchw
    return KeepOutside(mask_b1hw=mask, source=lambda step: trajectory[step.index + 1])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RegionalNoise:
    """Hook that takes DDIM's step with fresh noise inside a region.

    Attributes:
        mask_b1hw: region.
        eta: 0 is DDIM, 1 has the spread of DDPM.
        steps: indices of the steps with noise.
        generators: one for each row.
    """

    mask_b1hw: "Tensor"
    eta: float
    steps: range
    generators: "Sequence[Generator]"

    def __call__(self, latents_bchw: "Tensor", state: StepState) -> "Tensor":
        """Returns the latents with the noisy step's inside the region."""
        from overpaint.operators.diffusion.latents import draw_noise
        from overpaint.operators.diffusion.sampling import ddim_step

        step, x0, eps = state.step, state.x0_bchw, state.eps_bchw
        if step.index not in self.steps or x0 is None or eps is None:
            return latents_bchw
        sigma = ddim_sigma(step, self.eta)
        noise = draw_noise(self.generators, latents_bchw)
        noisy = ddim_step(x0, eps, step, sigma) + sigma * noise
        return latents_bchw.lerp(noisy, self.mask_b1hw)
