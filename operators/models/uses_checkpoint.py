"""Fields that operators with a model share."""

from dataclasses import replace
from typing import ClassVar, Generic

from overpaint.operators.models.weights import PAPERCUT, Checkpoint, DtypeName
from overpaint.pipeline.operator import ModelT, Operator
from pydantic import BaseModel, ConfigDict, Field


class CheckpointFields(BaseModel):
    """Fields that name weights."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    checkpoint: str = PAPERCUT
    """Weights: "papercut", a local folder, or a hub id."""
    revision: str | None = None
    """Commit, tag or branch of a hub id; null stands for `main`."""


class TorchOperator(Operator[ModelT], Generic[ModelT]):
    """Operator that computes with PyTorch."""

    dtype: DtypeName = "float32"
    """Number type of the weights and of all that is computed with them."""
    num_threads: int = Field(default=1, ge=1, le=256)
    """CPU threads of a model call; the last digit of a sum depends on them."""
    batch_size: int = Field(default=8, ge=1, le=4096)
    """Rows in one model call."""


class UsesCheckpoint(TorchOperator[ModelT], CheckpointFields, Generic[ModelT]):
    """Operator whose model is loaded from one checkpoint."""

    part: ClassVar[str]
    """The papercut checkpoint that it uses, such as `clip`."""

    @property
    def weights(self) -> Checkpoint:
        """The checkpoint with its revision and number type."""
        return Checkpoint(
            name=self.checkpoint, part=self.part, revision=self.revision, dtype=self.dtype
        )

    def check(self) -> None:
        """Checks that the checkpoint is there.

        Raises:
            ValueError: it is not.
        """
        self.weights.check()

    def revisions(self) -> dict[str, str]:
        """Returns the exact weights."""
        return {"checkpoint": self.weights.identity()}


class UsesPipeline(UsesCheckpoint[ModelT], Generic[ModelT]):
    """Operator whose model is a diffusers pipeline."""

    part: ClassVar[str] = "text_to_image"
    pipelines: ClassVar[tuple[str, ...]] = ()
    """Pipeline classes that its checkpoint may be of."""

    variant: str | None = None
    """Variant of the weight files, such as `fp16`; null takes a folder's only one."""

    @property
    def weights(self) -> Checkpoint:
        """The checkpoint with its revision, variant and number type."""
        return replace(super().weights, variant=self.variant)

    def check(self) -> None:
        """Checks that the checkpoint is there and is of a kind that the operator takes.

        Raises:
            ValueError: it is not.
        """
        self.weights.check(self.pipelines)
