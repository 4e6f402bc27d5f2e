"""InstructPix2Pix (arXiv 2211.09800): a UNet that sees the source and follows an instruction.

Its 8 input channels are the noisy latents and the latents of the source.
"""

from collections.abc import Mapping

from overpaint.operators.controls.guidance import ImageAndText
from overpaint.operators.controls.instructed import INSTRUCTED, instructed
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.method import Framed, LatentMethod
from overpaint.operators.diffusion.schedule import Window
from overpaint.operators.models.task_labels import task_labels_file
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column
from overpaint.pipeline.conditions import Condition
from overpaint.pipeline.edit_types import EDIT_TYPES
from overpaint.pipeline.operator import IN_FINGERPRINT_UNLESS_DEFAULT
from pydantic import Field


class InstructPix2Pix(LatentMethod, Framed):
    """An editor that sees the source and follows an instruction."""

    papers = ("2211.09800",)
    family = "F11"
    edit_types = ("add", "replace", "background", "color", "texture", "style", "expression")
    checkpoints = (
        "StableDiffusionInstructPix2PixPipeline",
        "StableDiffusionXLInstructPix2PixPipeline",
    )
    papercut = "instruction"
    prompt = c.INSTRUCTION

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of the guidance by the instruction."""
    image_guidance_scale: float = Field(default=1.5, ge=0, le=100)
    """Scale of the guidance by the source: the higher, the closer the edit keeps to it."""
    negative_prompt: str = ""
    """Negative prompt for classifier-free guidance."""
    task_labels: bool = Field(default=False, json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT)
    """Whether a checkpoint with task labels is told the row's `edit_type`; rows without one are of
    an unknown task."""

    @property
    def used(self) -> tuple[Column | Condition, ...]:
        """The edit type, where the checkpoint is told."""
        return (*self.uses, *((c.EDIT_TYPE,) if self.task_labels else ()))

    def check_weights(self, checkpoint: Checkpoint) -> None:
        """Checks too that the weights know task labels where the rows' are told.

        Raises:
            ValueError: they are not there, of another kind, or without task labels.
        """
        super().check_weights(checkpoint)
        if self.task_labels and task_labels_file(checkpoint) is None:
            raise ValueError(
                f"task_labels = true: {checkpoint.field} = {checkpoint.name!r} has no task labels: "
                "leave task_labels out"
            )

    def branches(self) -> Mapping[str, Window]:
        """Returns instruction and source, the source alone, and neither."""
        return INSTRUCTED

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from noise; the UNet sees the source throughout."""
        guidance = ImageAndText(
            guidance_scale=self.guidance_scale, image_guidance_scale=self.image_guidance_scale
        )
        return instructed(batch, guidance, self.negative_prompt, self._labels(batch))

    def _labels(self, batch: Batch) -> list[int]:
        """Returns the label of each row's edit type; 0 where the row has none."""
        types = [request.values.get(c.EDIT_TYPE.name) for request in batch.requests]
        return [1 + EDIT_TYPES.index(kind) if kind in EDIT_TYPES else 0 for kind in types]
