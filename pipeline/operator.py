"""The contract of one step: a frozen value that is its own configuration.

What changes bytes is a field and is fingerprinted, the batch size included: a model's answer for
one row depends on the shape of the batch in the last digit, and that digit can flip a pixel. What
changes only speed is `Placement` and is not.

An operator is a function of its inputs. Rows of one task whose inputs are equal share one answer,
so that one caption or one inversion serves every edit of an image; an operator that should answer
each row anew reads `seed`.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from overpaint.pipeline.columns import Column, Row
from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["fetch", "caption", "instruct", "mask", "invert", "edit", "store", "score", "judge"]
ModelT = TypeVar("ModelT")
NewColumns = Mapping[str, Any]
"""The columns that an operator adds to one row, by name."""

SPEED_ONLY: dict[str, Any] = {"identity": False}
"""`json_schema_extra` of a field that cannot change a byte (a time limit, a permission)."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An operator's answer for a row that it understood and declines."""

    code: str
    message: str


class Placement(BaseModel):
    """What one actor needs and how many there may be. Changes speed, never bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_cpus: float = Field(default=1.0, gt=0)
    """Logical CPUs that one actor reserves."""
    num_gpus: float = Field(default=0.0, ge=0)
    """GPUs that one actor reserves; a share is bookkeeping, not a memory limit."""
    memory_gib: float | None = Field(default=None, gt=0)
    """Memory that one actor reserves, in GiB; null reserves none."""
    actors: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 1)
    """The fewest and the most actors of the pool."""

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> "Placement":
        if self.actors[0] > self.actors[1]:
            raise ValueError(f"actors = {list(self.actors)}: the fewest come first")
        return self


class Operator(BaseModel, ABC, Generic[ModelT]):
    """One step of a plan: reads some columns of a row and adds others."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=()
    )

    kind: ClassVar[Kind]
    """What it is for; a plan has at most one `fetch`, and edits before it stores."""
    pixels_version: ClassVar[int] = 1
    """Raised only when the same fields and inputs give other bytes than before."""

    batch_size: int = Field(default=1, ge=1, le=4096)
    """Rows in one model call; a shorter batch is padded to it, so that bytes never depend on it."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[Column, ...]:
        """The columns it needs; every row has a value (which may be null) for each."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[Column, ...]:
        """The columns it adds; each answer has exactly these."""

    @property
    def optional(self) -> tuple[Column, ...]:
        """Columns that it uses where the plan has them; null where it does not."""
        return ()

    @property
    def pads(self) -> bool:
        """Whether a short batch is filled up; False where rows never share a model call."""
        return True

    @property
    def reproducible(self) -> bool:
        """Whether equal inputs give equal answers; False for a hosted endpoint."""
        return True

    def check(self) -> None:
        """Looks, before anything is started, for what `load` will need.

        Raises:
            ValueError: something is missing; one sentence, naming the field.
        """

    def revisions(self) -> dict[str, str]:
        """The exact weights behind each checkpoint: a hub revision, or a digest of the files."""
        return {}

    def bucket(self, row: Row) -> Hashable:
        """Rows that may share a model call have equal buckets (a size, a number of branches)."""
        del row
        return None

    @abstractmethod
    def load(self) -> ModelT:
        """Loads what `run` needs, once in each actor."""

    def relieve(self, model: ModelT, *, exact: bool) -> str | None:
        """Makes a loaded model need less memory, after its device ran out of it.

        Args:
            model: what `load` returned; changed in place.
            exact: True asks for a way that keeps every byte of every answer, False for one that
                may change the last digit.

        Returns:
            A word for what was done, such as `offload`; None where nothing is left to do.
        """
        del model, exact
        return None

    @abstractmethod
    def run(self, rows: Sequence[Row], model: ModelT) -> list[NewColumns | Rejected]:
        """Answers each row, in order, with exactly its output columns or `Rejected`.

        Args:
            rows: `batch_size` rows of one bucket, with `inputs` and `optional` in each.
            model: what `load` returned.

        Raises:
            RowError: a row cannot be done. Any exception costs only the row that causes it: the
                batch is split until that row is found.
        """
