"""Placement of a group of stages: what its actors reserve, and on which machines; never bytes."""

from typing import Annotated, Any, Literal

from overpaint.pipeline.accelerators import ACCELERATORS, known_accelerator
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

AUTO = "auto"
"""Word of a recipe for a share of a GPU that is estimated."""
_NUMBER_OR_AUTO: dict[str, Any] = {"anyOf": [{"type": "number", "minimum": 0}, {"const": AUTO}]}


class Placement(BaseModel):
    """Resources that one actor needs, and how many actors there may be; never changes bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_cpus: float = Field(default=1.0, gt=0)
    """Logical CPUs that one actor reserves."""
    num_gpus: Annotated[float, Field(ge=0), WithJsonSchema(_NUMBER_OR_AUTO)] = 0.0
    """GPUs that one actor reserves; a share is bookkeeping, not a memory limit. `auto` is a share
    by the memory that the models need, as it is estimated before a run."""
    memory_gib: float | None = Field(default=None, gt=0)
    """Memory that one actor reserves, in GiB; null reserves none."""
    actors: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 1)
    """The fewest and the most actors of the pool."""
    accelerator_type: str | None = None
    """Kind of GPU that an actor must have, by Ray's name, such as `L4`; null for any."""
    market_type: Literal["spot", "on-demand"] | None = None
    """Machines that actors take first, as Ray's label `ray.io/market-type` has them; others do
    where there are none of these. Null for any."""

    finds_gpu_share: bool = False
    """Whether `num_gpus` is to be found: it is a whole GPU until then."""

    @model_validator(mode="before")
    @classmethod
    def _auto_is_a_share(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("num_gpus") == AUTO:
            return {**value, "num_gpus": 1.0, "finds_gpu_share": True}
        return value

    @field_validator("accelerator_type")
    @classmethod
    def _accelerator_is_known(cls, name: str | None) -> str | None:
        return known_accelerator(name)

    @model_validator(mode="after")
    def _hangs_together(self) -> "Placement":
        if self.actors[0] > self.actors[1]:
            raise ValueError(f"actors = {list(self.actors)}: the fewest come first")
        if self.accelerator_type and not self.num_gpus:
            raise ValueError(
                f"accelerator_type = {self.accelerator_type!r} and num_gpus = 0: give num_gpus"
            )
        if self.finds_gpu_share and self.gpu_memory_gib is None:
            known = ", ".join(name for name, memory in ACCELERATORS.items() if memory)
            raise ValueError(
                "num_gpus = 'auto' is a share of a GPU's memory: give accelerator_type, one of "
                f"{known}"
            )
        return self

    @property
    def gpu_memory_gib(self) -> float | None:
        """The memory of the kind of GPU that is asked for, in GiB; None where it is not known."""
        return ACCELERATORS.get(self.accelerator_type or "")

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as a recipe has them, without those that are null."""
        fields = self.model_dump(mode="json", exclude_none=True, exclude={"finds_gpu_share"})
        return {**fields, "num_gpus": AUTO} if self.finds_gpu_share else fields
