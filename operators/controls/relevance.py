"""Places where an instruction matters: the relevance map of Watch Your Steps (arXiv 2308.08947).

An instruction editor predicts the noise with the instruction and without; where the predictions
differ, the instruction changes something. Every threshold is a row's own.

Shapes: b rows, h and w latent pixels.
"""

from typing import TYPE_CHECKING, Literal

from overpaint.operators.controls.noise_difference import otsu_of_means
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.schedule import walked_steps
from overpaint.pipeline.variant import Variant
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class Relevance(Variant):
    """Fields of a method, or a finder, that looks for places where an instruction matters."""

    wys_noise_level: float = Field(default=0.8, gt=0, le=1)
    """Share of the way to pure noise at which the predictions are compared; 0.8 in the official
    code."""
    num_relevance_maps: int = Field(default=1, ge=1, le=100)
    """Noises over which the distance is averaged; 1 in the paper."""
    mask_thresholding: Literal["iqr", "otsu"] = "iqr"
    """Rule for the threshold: `iqr` clips a row's outliers above 1.5 interquartile ranges and takes
    `mask_threshold` between its minimum and maximum, as the paper does; `otsu` separates two
    classes after a mean over 3 by 3 latent pixels."""
    mask_threshold: float = Field(default=0.5, gt=0, lt=1)
    """Least relevance of a place that may change, for `iqr`; 0.5 in the official code."""

    @property
    def num_relevance_forwards(self) -> int:
        """The evaluations of the network for one row: with the instruction and without."""
        return 2 * self.num_relevance_maps


def relevant(batch: Batch, fields: Relevance, negative_prompt: str = "") -> "Tensor":
    """Returns the relevance in units of each row's threshold, b1hw: above 1 may change.

    Args:
        batch: rows of an instruction editor; each draws noise from its own generator.
        fields: number of noises, their level, and the rule for the threshold.
        negative_prompt: stands for no instruction.
    """
    distance = _distance(batch, fields, negative_prompt)
    if fields.mask_thresholding == "otsu":
        return otsu_of_means(distance)
    values = distance.flatten(1)
    low, high = (values.quantile(share, dim=1, keepdim=True) for share in (0.25, 0.75))
    clipped = values.minimum(high + 1.5 * (high - low))
    least, most = clipped.amin(dim=1, keepdim=True), clipped.amax(dim=1, keepdim=True)
    relevance = (clipped - least) / (most - least).clamp_min(1e-12)
    return (relevance / fields.mask_threshold).view_as(distance)


def _distance(batch: Batch, fields: Relevance, negative_prompt: str) -> "Tensor":
    """Returns the mean distance of the predictions with and without the instruction, b1hw."""
    import torch
    from overpaint.operators.diffusion import latents
    from overpaint.operators.diffusion.sampling import Branch, predict

    steps = batch.schedule.steps
    step = steps[walked_steps(fields.wys_noise_level, len(steps)).start]
    # The paper's model was trained on images whose latents are not scaled.
    image = batch.source_latents / batch.model.scaling_factor
    texts = batch.prompts([request.prompt for request in batch.requests])
    branches = {
        "text": Branch(prompts=texts, channels_bchw=image),
        "image": Branch(prompts=batch.negative_prompts(negative_prompt), channels_bchw=image),
    }
    generators = latents.make_generators([request.seed for request in batch.requests])
    distances: list[Tensor] = []
    for _ in range(fields.num_relevance_maps):
        noise = latents.draw_noise(generators, image)
        source = latents.NoisedSource(x0_bchw=batch.source_latents, noise_bchw=noise)
        said = predict(batch.model, source.at(step.alpha_bar), step, branches)
        distances.append((said["text"] - said["image"]).abs().sum(dim=1, keepdim=True))
    return torch.stack(distances).mean(dim=0)
