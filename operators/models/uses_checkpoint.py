"""Fields that operators with a model share."""

from dataclasses import replace
from typing import Annotated, ClassVar, Generic

from overpaint.operators.models.adapters import Adapter
from overpaint.operators.models.weights import PAPERCUT, Checkpoint, DtypeName
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.operator import IN_FINGERPRINT_UNLESS_DEFAULT, ModelT, Operator
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

_ADAPTERS = {"type": "array", "items": Adapter.model_json_schema()}


class CheckpointFields(BaseModel):
    """Fields that name weights."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    checkpoint: str = PAPERCUT
    """Weights: "papercut", a folder here or on a store, or a hub id."""
    revision: str | None = None
    """Commit, tag or branch of a hub id, null for `main`; of a folder on a store its identity."""


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
    adapters: Annotated[tuple[Adapter, ...], WithJsonSchema(_ADAPTERS)] = Field(
        default=(), json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT
    )
    """LoRAs that are fused into the weights, in order, before the first row, textual inversions,
    ControlNets and IP-Adapters: `checkpoint`, `revision`, `file`, `scale`, `kind` and more."""
    scheduler: dict[str, bool | int | float | str] = Field(
        default={}, json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT
    )
    """Values that replace those of the checkpoint's scheduler, as few-step LoRAs need them; 0 or
    false stands for null."""

    @property
    def weights(self) -> Checkpoint:
        """The checkpoint with its revision, variant, number type and what is added to it."""
        return replace(
            super().weights,
            variant=self.variant,
            adapters=self.adapters,
            scheduler=tuple(sorted(self.scheduler.items())),
        )

    def with_controls(self, cost: Cost) -> Cost:
        """Returns the evaluations of a row with those of ControlNets and IP-Adapters."""
        kinds = [adapter.kind for adapter in self.adapters if adapter.reads is not None]
        controls, seen = kinds.count("controlnet"), kinds.count("ip_adapter")
        return cost + Cost(control=controls * cost.forward, vision=seen)

    def check(self) -> None:
        """Checks that the checkpoint is there and is of a kind that the operator takes.

        Raises:
            ValueError: it is not.
        """
        self.weights.check(self.pipelines)
