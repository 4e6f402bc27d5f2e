"""Places where noise predictions differ under two prompts: the mask of DiffEdit (arXiv 2210.11427).

The source is noised several times, and its noise predicted under both prompts; the mean distance of
the predictions shows what one prompt says and the other does not. Every threshold is a row's own.

Shapes: b rows, c latent channels, h and w latent pixels.
"""

from typing import TYPE_CHECKING, Literal

from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.schedule import walked_steps
from overpaint.pipeline.variant import Variant
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from torch import Tensor


class NoiseDifference(Variant):
    """Fields of a method, or a finder, that looks for places where predictions differ."""

    num_maps_per_mask: int = Field(default=10, ge=1, le=100)
    """Noises over which the distance is averaged; 10 in the paper."""
    mask_encode_strength: float = Field(default=0.5, gt=0, le=1)
    """Share of the way to pure noise at which the predictions are compared; 0.5 in the paper."""
    mask_thresholding: Literal["ratio", "otsu"] = "ratio"
    """Rule for the threshold: `ratio` takes half of the robust maximum, as in the paper; `otsu`
    separates two classes after a mean over 3 by 3 latent pixels, and finds backgrounds too."""
    mask_thresholding_ratio: float = Field(default=3.0, gt=0, le=100)
    """Robust maximum as a multiple of a row's mean distance, for `ratio`; 3 in diffusers."""

    @property
    def num_difference_forwards(self) -> int:
        """The evaluations of the network for one row: the predictions are unguided."""
        return 2 * self.num_maps_per_mask


def noise_difference(
    batch: Batch,
    x0_bchw: "Tensor",
    source: "PromptEmbeds",
    target: "PromptEmbeds",
    fields: NoiseDifference,
) -> "Tensor":
    """Returns the mean distance of the predictions under two prompts, b1hw.

    Args:
        batch: rows; each draws the noises from its own generator.
        x0_bchw: clean latents of the sources.
        source: embedded source prompts.
        target: embedded target prompts.
        fields: number of noises and their level.
    """
    import torch
    from overpaint.operators.diffusion import latents

    steps = batch.schedule.steps
    step = steps[walked_steps(fields.mask_encode_strength, len(steps)).start]
    generators = latents.make_generators([request.seed for request in batch.requests])
    distances: list[Tensor] = []
    for _ in range(fields.num_maps_per_mask):
        noise = latents.draw_noise(generators, x0_bchw)
        noised = latents.NoisedSource(x0_bchw=x0_bchw, noise_bchw=noise).at(step.alpha_bar)
        said = batch.predict(noised, step, {"source": source, "text": target})
        distances.append((said["text"] - said["source"]).abs().mean(dim=1, keepdim=True))
    return torch.stack(distances).mean(dim=0)


def above_threshold(distance_b1hw: "Tensor", fields: NoiseDifference) -> "Tensor":
    """Returns distances in units of each row's threshold, b1hw: above 1 belongs to the mask."""
    if fields.mask_thresholding == "otsu":
        return otsu_of_means(distance_b1hw)
    mean = distance_b1hw.mean(dim=(1, 2, 3), keepdim=True)
    return distance_b1hw / (0.5 * fields.mask_thresholding_ratio * mean).clamp_min(1e-12)


def otsu_of_means(values_b1hw: "Tensor") -> "Tensor":
    """Returns means over 3 by 3 latent pixels in units of each row's Otsu threshold, b1hw."""
    from skimage.filters import threshold_otsu
    from torch.nn import functional

    means = functional.avg_pool2d(values_b1hw, 3, stride=1, padding=1, count_include_pad=False)
    rows = means.flatten(1).cpu().numpy()
    thresholds = means.new_tensor([float(threshold_otsu(row)) for row in rows])
    return means / thresholds.view(-1, 1, 1, 1).clamp_min(1e-12)
