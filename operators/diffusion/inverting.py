"""An inversion: a frozen value that finds the noise a model would turn back into a source.

Each module of `operators/inversions` holds one. It declares the columns that it hands on, so that a
plan whose edit needs others is refused.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from overpaint.operators.diffusion.method import Framed
from overpaint.operators.diffusion.request import EditRequest
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.images import Pixels
from overpaint.pipeline.operator import IN_FINGERPRINT_UNLESS_DEFAULT
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.batch import Batch


class Drawing(BaseModel):
    """Field of an operator that draws sources, and hands on the trajectory of each."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    num_inference_steps: int = Field(default=50, ge=1, le=1000)
    """Steps from noise to picture; `edit` walks the same ones."""


class Inversion(Framed, ABC):
    """A way of inverting sources."""

    family: ClassVar[str]
    """Mechanism of the survey that it belongs to, F01 to F18."""
    outputs: ClassVar[tuple[Column, ...]]
    """Columns that it hands on; they never leave their actor."""

    num_inference_steps: int = Field(default=25, ge=1, le=1000)
    """Steps of the trajectory; `edit` walks the same ones back."""
    prompt: Literal["source", "empty"] = Field(
        default="source", json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT
    )
    """`source` inverts under the description of the source, `empty` under no words."""

    @classmethod
    def facts(cls) -> dict[str, str]:
        """Returns results, costs and papers of the inversion."""
        return {
            "gives": ", ".join(column.name for column in cls.outputs),
            "evaluations": str(cls().cost()),
            **super().facts(),
            "family": cls.family,
        }

    @property
    def reads(self) -> tuple[Column, ...]:
        """Columns that it reads beside the source and its description."""
        return ()

    def noise_seed(self, picture: Pixels, row: Row) -> int:
        """Returns the seed of the noise that it draws for a row; 0 where it draws none."""
        del picture, row
        return 0

    @abstractmethod
    def cost(self) -> Cost:
        """Returns the network evaluations for one row."""

    @abstractmethod
    def invert(self, batch: "Batch") -> list[Mapping[str, Any]]:
        """Inverts a full batch of sources; returns the values of `outputs` for each row.

        Args:
            batch: requests whose prompts are source prompts.
        """

    def run(self, requests: Sequence[EditRequest], model: Any) -> list[Mapping[str, Any]]:
        """Inverts sources with frames of one size."""
        from overpaint.operators.diffusion.batch import Batch

        return self.invert(
            Batch(requests, model, num_inference_steps=self.num_inference_steps, walked=range)
        )
