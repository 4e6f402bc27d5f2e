"""Guidance: one answer of several branches.

Classifier-free guidance (arXiv 2207.12598), limited to an interval of noise levels
(arXiv 2404.07724) and rescaled against overexposure (arXiv 2305.08891, section 3.4).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from overpaint.operators.diffusion.schedule import Step
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierFree:
    """`negative + guidance_scale x (text - negative)`; `text` alone where that is not asked.

    Attributes:
        guidance_scale: 1 leaves the text's answer as it is.
        rescale: 0 (off) to 1: how far the answer's spread is pulled back to the text's.
    """

    guidance_scale: float
    rescale: float = 0.0

    def __call__(self, answers: Mapping[str, Tensor], step: Step) -> Tensor:
        """The guided answer, bcyx."""
        del step
        text = answers["text"]
        negative = answers.get("negative")
        if negative is None or self.guidance_scale == 1.0:
            return text
        guided = torch.lerp(negative, text, self.guidance_scale)
        if self.rescale == 0.0:
            return guided
        # The spread is each row's own, so that rows stay independent.
        ratio = text.std(dim=(1, 2, 3), keepdim=True) / guided.std(dim=(1, 2, 3), keepdim=True)
        return guided * (self.rescale * ratio + 1.0 - self.rescale)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageAndText:
    """InstructPix2Pix's two guidances, equation 3 of arXiv 2211.09800.

    Branches: `text` (image and instruction), `image` (image alone), `negative` (neither).

    Attributes:
        guidance_scale: how closely the instruction is followed.
        image_guidance_scale: how closely the source is followed.
    """

    guidance_scale: float
    image_guidance_scale: float

    def __call__(self, answers: Mapping[str, Tensor], step: Step) -> Tensor:
        """The guided answer, bcyx."""
        del step
        text, image, negative = answers["text"], answers["image"], answers["negative"]
        return (
            negative
            + self.guidance_scale * (text - image)
            + self.image_guidance_scale * (image - negative)
        )
