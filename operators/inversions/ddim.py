"""DDIM inversion ("Denoising Diffusion Implicit Models", arXiv 2010.02502).

The whole trajectory is kept, so that an edit can hold what must not change exactly to the source.
"""

from collections.abc import Mapping
from typing import Any

from overpaint.operators.controls.guidance import ClassifierFree
from overpaint.operators.controls.trajectory import invert_to_paths
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.inverting import Inversion
from overpaint.pipeline import columns as c
from overpaint.pipeline.cost import Cost


class DDIMInversion(Inversion):
    """DDIM read backwards: one network evaluation for each step."""

    papers = ("2010.02502",)
    family = "F02"
    outputs = (c.INVERTED_PATH,)

    def cost(self) -> Cost:
        """Counts one forward pass for each step."""
        return Cost(forward=self.num_inference_steps, vae_encode=1, text=1)

    def invert(self, batch: Batch) -> list[Mapping[str, Any]]:
        """Walks the sources back to noise under their prompts."""
        prompts = batch.prompts([request.prompt for request in batch.requests])
        predictor = batch.predictor({"text": prompts}, ClassifierFree(guidance_scale=1.0))
        return invert_to_paths(batch, predictor, lambda back, last: back(last))
