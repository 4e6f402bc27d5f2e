"""Inpainting with a UNet of 9 input channels (Stable Diffusion inpainting, arXiv 2112.10752).

Its further channels are the mask and the latents of the source without what is masked. A checkpoint
that was trained on several tasks, such as papercut's, may have task labels beside its UNet.
"""

from typing import Literal, get_args

from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.inpainting import inpainting_channels
from overpaint.operators.diffusion.batch import Batch, BranchInputs, Sampling
from overpaint.operators.diffusion.method import Framed
from overpaint.operators.models.task_labels import check_task_label
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.conditions import MASK
from overpaint.pipeline.cost import Cost
from pydantic import Field

InpaintingTask = Literal[
    "shape", "near_shape", "rough_shape", "object", "context", "scene", "inside", "mask", "erased"
]
"""Tasks of papercut's `inpainting`, in the order of their labels, which begin at 1."""


class Inpaint(TextGuided, Framed):
    """Fills the mask with what the target prompt says, by an inpainting model."""

    papers = ("2112.10752",)
    family = "F09"
    edit_types = ("add", "remove", "replace", "background")
    checkpoints = ("StableDiffusionInpaintPipeline", "StableDiffusionXLInpaintPipeline")
    papercut = "inpainting"
    needs = (MASK,)

    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the steps that are walked; 1 starts from pure noise."""
    task: InpaintingTask | None = None
    """Task that the UNet is told, by a checkpoint with task labels: null tells none, `shape` fills
    the mask's exact shape with the object that the prompt names, `near_shape` and `rough_shape` a
    shape that the mask follows less and less, and `object` a box with an object of any shape;
    `context` goes on with what is around the mask, `scene` reads a caption of the whole picture,
    `inside` is for pictures that are clean outside the mask, `mask` draws the mask of the object
    that is named, white on black, and `erased` gives colour or texture back."""

    def check_weights(self, checkpoint: Checkpoint) -> None:
        """Checks too that the weights know the task.

        Raises:
            ValueError: they are not there, of another kind, or without such a task label.
        """
        super().check_weights(checkpoint)
        if self.task is not None:
            check_task_label(checkpoint, self.task, self.task_label)

    @property
    def task_label(self) -> int:
        """Label of the task; 0 for none."""
        return 0 if self.task is None else 1 + get_args(InpaintingTask).index(self.task)

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the masked source too, which is encoded beside the source."""
        return super().cost(num_inference_steps) + Cost(vae_encode=1)

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from noise, or from the noised source where `strength` is below 1."""
        channels = inpainting_channels(batch)
        inputs = BranchInputs(channels_bchw=channels, task_label=self.task_label)
        start = batch.noise if self.strength == 1.0 else batch.noised_source
        return Sampling(start_bchw=start, branches=dict.fromkeys(self.branches(), inputs))
