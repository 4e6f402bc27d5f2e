"""Methods that run through a diffusers pipeline of their own: transformer editors."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.method import Framed, Method
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.models.tokenizing import TextLength
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.cost import Cost

if TYPE_CHECKING:
    from overpaint.operators.diffusion.pipeline_model import PipelineModel
    from torch import Tensor


class PipelineMethod(Method, Framed):
    """A method whose checkpoint is one diffusers pipeline, which edits a whole batch."""

    papercut = None

    @abstractmethod
    def call(self, requests: Sequence[EditRequest], model: "PipelineModel") -> "Tensor":
        """Runs the pipeline on rows of one size; returns images b3HW, 0 to 1.

        Args:
            requests: rows with frames of one size.
            model: loaded pipeline.
        """

    def load(self, checkpoint: Checkpoint) -> "PipelineModel":
        """Loads the pipeline on its device."""
        import diffusers
        from overpaint.operators.diffusion.pipeline_model import load_pipeline

        kind: Any = getattr(diffusers, self.checkpoints[0])
        return load_pipeline(checkpoint, kind, resolution_px=self.shapes.base)

    def free_memory(self, model: "PipelineModel", *, exact: bool) -> str | None:
        """Offloads the pipeline's parts; where bytes may change, slices its VAE."""
        return model.free_memory(exact=exact)

    def text_length(self, text: str, model: "PipelineModel") -> TextLength | None:
        """Returns the length of a text for the text encoder that carries it."""
        return model.text_length(text)

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts one evaluation for each step: guidance is distilled into these models."""
        return Cost(forward=num_inference_steps, vae_encode=1, vae_decode=1, text=1)

    def edit(
        self, requests: Sequence[EditRequest], model: "PipelineModel"
    ) -> list[NDArray[np.float32]]:
        """Runs the pipeline, and returns its images as pictures."""
        from overpaint.operators.diffusion import latents

        return latents.to_pictures(self.call(requests, model) * 2.0 - 1.0)
