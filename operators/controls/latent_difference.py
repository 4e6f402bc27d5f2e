"""Places where two prompts lead a denoising apart: the mask of FISEdit (arXiv 2305.17423).

From one start the source prompt and the target prompt are followed for a few steps. Each step's
distance is scaled to 0 to 1 and they are added; Otsu's threshold of the row divides the sum.

Shapes: b rows, c latent channels, h and w latent pixels.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.schedule import Step
from overpaint.pipeline.variant import Variant
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from torch import Tensor


class LatentDifference(Variant):
    """Fields of a method, or a finder, that looks for places where latents part."""

    num_mask_steps: int = Field(default=10, ge=1, le=1000)
    """Steps, from the first on, in which latents are compared; 10 in the official code. Fewer where
    there are not so many."""
    mask_guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance of both prompts while the mask is made; 1 is unguided."""

    def num_latent_forwards(self, num_steps: int) -> int:
        """Returns the evaluations for one row: both prompts, with guidance twice.

        Args:
            num_steps: steps that there are.
        """
        per_step = 2 if self.mask_guidance_scale == 1.0 else 4
        return per_step * min(self.num_mask_steps, num_steps)


def where_latents_part(
    batch: Batch,
    start_bchw: "Tensor",
    steps: Sequence[Step],
    sources: Sequence[str],
    fields: LatentDifference,
) -> "Tensor":
    """Returns the places where source and target prompt lead apart, b1hw, 0 or 1.

    Args:
        batch: rows with their target prompts.
        start_bchw: latents at the level before the first of the steps.
        steps: steps to walk; the first few of them are.
        sources: source prompts.
        fields: number of steps, and their guidance.
    """
    import torch

    prompts = {
        "source": batch.prompts(sources),
        "text": batch.prompts([request.prompt for request in batch.requests]),
    }
    if fields.mask_guidance_scale != 1.0:
        prompts |= dict.fromkeys(("source_negative", "negative"), batch.negative_prompts(""))
    source, edited = start_bchw, start_bchw
    total = torch.zeros_like(start_bchw[:, :1])
    for step in steps[: fields.num_mask_steps]:
        source, edited = _advanced(batch, step, (source, edited), prompts, fields)
        total = total + _scaled((edited - source).abs().mean(dim=1, keepdim=True))
    return opened(_above_otsu(_scaled(total)))


def _advanced(
    batch: Batch,
    step: Step,
    latents: "tuple[Tensor, Tensor]",
    prompts: "dict[str, PromptEmbeds]",
    fields: LatentDifference,
) -> "tuple[Tensor, Tensor]":
    """Returns both latents after a guided step."""
    from overpaint.operators.diffusion.sampling import Branch, predict

    source, edited = latents
    branches = {
        name: Branch(
            prompts=embeds,
            latents=(lambda _: source) if name.startswith("source") else (lambda _: edited),
        )
        for name, embeds in prompts.items()
    }
    said = predict(batch.model, edited, step, branches)
    scale = fields.mask_guidance_scale
    if scale != 1.0:
        said["source"] = said["source_negative"].lerp(said["source"], scale)
        said["text"] = said["negative"].lerp(said["text"], scale)
    return batch.advance(source, step, said["source"]), batch.advance(edited, step, said["text"])


def _scaled(values_b1hw: "Tensor") -> "Tensor":
    """Returns values with each row's least at 0 and its most at 1."""
    least = values_b1hw.amin(dim=(1, 2, 3), keepdim=True)
    most = values_b1hw.amax(dim=(1, 2, 3), keepdim=True)
    return (values_b1hw - least) / (most - least).clamp_min(1e-12)


def _above_otsu(values_b1hw: "Tensor") -> "Tensor":
    from skimage.filters import threshold_otsu

    rows = values_b1hw.flatten(1).cpu().numpy()
    thresholds = values_b1hw.new_tensor([float(threshold_otsu(row)) for row in rows])
    return (values_b1hw > thresholds.view(-1, 1, 1, 1)).float()


def opened(mask_b1hw: "Tensor") -> "Tensor":
    """Returns a mask eroded and then dilated by 2 by 2 places, which takes single ones away."""
    from torch.nn import functional

    eroded = -functional.max_pool2d(-functional.pad(mask_b1hw, (0, 1, 0, 1), value=1.0), 2, 1)
    return functional.max_pool2d(functional.pad(eroded, (1, 0, 1, 0)), 2, 1)
