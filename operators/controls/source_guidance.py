"""Inversions under the source prompt that classifier-free guidance may strengthen."""

from typing import TYPE_CHECKING

from overpaint.operators.controls.guidance import ClassifierFree
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.inverting import Inversion
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.sampling import Predictor


class SourceGuided(Inversion):
    """An inversion with guidance by the source prompt, against the empty one."""

    guidance_scale: float = Field(default=1.0, ge=0, le=100)
    """Scale of classifier-free guidance by the source prompt; 1 is unguided."""

    @property
    def num_branches(self) -> int:
        """The number of network evaluations of one prediction."""
        return 1 if self.guidance_scale == 1.0 else 2

    def predictor(self, batch: Batch) -> "Predictor":
        """Returns the prediction under the source prompts."""
        prompts = {"text": batch.prompts([request.prompt for request in batch.requests])}
        if self.num_branches == 2:
            prompts["negative"] = batch.negative_prompts("")
        return batch.predictor(prompts, ClassifierFree(guidance_scale=self.guidance_scale))
