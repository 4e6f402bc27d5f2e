"""Placement of a group of stages: what its actors reserve, and on which machines; never bytes."""

from typing import Annotated, Literal

from overpaint.pipeline.accelerators import known_accelerator
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Placement(BaseModel):
    """Resources that one actor needs, and how many actors there may be; never changes bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_cpus: float = Field(default=1.0, gt=0)
    """Logical CPUs that one actor reserves."""
    num_gpus: float = Field(default=0.0, ge=0)
    """GPUs that one actor reserves; a share is bookkeeping, not a memory limit."""
    memory_gib: float | None = Field(default=None, gt=0)
    """Memory that one actor reserves, in GiB; null reserves none."""
    actors: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 1)
    """The fewest and the most actors of the pool."""
    accelerator_type: str | None = None
    """Kind of GPU that an actor must have, by Ray's name, such as `L4`; null for any."""
    market_type: Literal["spot", "on-demand"] | None = None
    """Machines that actors take first, as Ray's label `ray.io/market-type` has them; others do
    where there are none of these. Null for any."""

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
        return self
