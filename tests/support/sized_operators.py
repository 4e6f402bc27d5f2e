"""Operators whose time, memory or rules depend on the rows of a call, as a model's do."""

import time
from collections.abc import Sequence

from overpaint.operators.negative import Negative
from overpaint.pipeline.images import Picture
from pydantic import Field


class TimeARow(Negative):
    """Takes as long for two rows as for one after the other, up to `shared` rows at once."""

    shared: int = Field(default=1, ge=1)

    def infer(self, inputs: Sequence[Picture], model: None) -> list[Picture]:
        time.sleep(-(-len(inputs) // self.shared) * self.batch_ms / 1000)
        return self.model_copy(update={"batch_ms": 0}).negatives(inputs)

    def negatives(self, inputs: Sequence[Picture]) -> list[Picture]:
        return super().infer(inputs, None)


class SmallDevice(Negative):
    """Has room for four rows."""

    def infer(self, inputs: Sequence[Picture], model: None) -> list[Picture]:
        if len(inputs) > 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().infer(inputs, model)


class OneByOne(Negative):
    """Refuses calls of several rows."""

    batch_size: int = 1

    def check(self) -> None:
        if self.batch_size > 1:
            raise ValueError(f"batch_size = {self.batch_size}: rows are taken one by one")
