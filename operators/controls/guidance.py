"""Guidance: one prediction of those of several branches.

Classifier-free guidance (arXiv 2207.12598), rescaled against overexposure (arXiv 2305.08891,
section 3.4), and InstructPix2Pix's guidance by image and text (arXiv 2211.09800).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.batch import Sampling
from overpaint.operators.diffusion.method import LatentMethod
from overpaint.operators.diffusion.schedule import ALL_STEPS, Window
from overpaint.operators.diffusion.state import StepState
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierFree:
    """Classifier-free guidance: `negative + guidance_scale x (text - negative)`.

    Attributes:
        guidance_scale: 1 leaves the prediction of `text` as it is.
        rescale: CFG rescale, 0 (off) to 1 (full).
    """

    guidance_scale: float
    rescale: float = 0.0

    def __call__(self, state: StepState) -> "Tensor":
        """Returns the guided prediction, bchw."""
        text, negative = state.predictions["text"], state.predictions.get("negative")
        if negative is None or self.guidance_scale == 1.0:
            return text
        guided = negative.lerp(text, self.guidance_scale)
        if self.rescale == 0.0:
            return guided
        # The spread is each row's own, so that rows stay independent.
        ratio = text.std(dim=(1, 2, 3), keepdim=True) / guided.std(dim=(1, 2, 3), keepdim=True)
        return guided * (self.rescale * ratio + 1.0 - self.rescale)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageAndText:
    """Guidance by image and text, equation 3 of arXiv 2211.09800.

    Branches: `text` (image and instruction), `image` (image alone), `negative` (neither).

    Attributes:
        guidance_scale: strength of the guidance by the instruction.
        image_guidance_scale: strength of the guidance by the source.
    """

    guidance_scale: float
    image_guidance_scale: float

    def __call__(self, state: StepState) -> "Tensor":
        """Returns the guided prediction, bchw."""
        text, image = state.predictions["text"], state.predictions["image"]
        negative = state.predictions["negative"]
        return (
            negative
            + self.guidance_scale * (text - image)
            + self.image_guidance_scale * (image - negative)
        )


class TextGuided(LatentMethod):
    """A method with classifier-free guidance; brings its fields, branches and guidance."""

    guidance_scale: float = Field(default=6.0, ge=0, le=100)
    """Scale of classifier-free guidance; 1 is unguided."""
    guidance_rescale: float = Field(default=0.0, ge=0, le=1)
    """CFG rescale, 0 (off) to 1 (full)."""
    negative_prompt: str = ""
    """Negative prompt for classifier-free guidance."""

    def branches(self) -> Mapping[str, Window]:
        """Returns `text`, and `negative` where there is guidance."""
        text = {"text": ALL_STEPS}
        return text if self.guidance_scale == 1.0 else {**text, "negative": ALL_STEPS}

    @property
    def guidance(self) -> ClassifierFree:
        """Classifier-free guidance by the method's fields."""
        return ClassifierFree(guidance_scale=self.guidance_scale, rescale=self.guidance_rescale)

    def complete(self, sampling: Sampling) -> Sampling:
        """Returns a sampling with classifier-free guidance, where it has no guidance of its own."""
        return replace(
            sampling,
            guidance=sampling.guidance or self.guidance,
            negative_prompt=self.negative_prompt,
        )
