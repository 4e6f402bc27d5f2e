"""A fit: a frozen value that optimises something for each inverted source.

Each module of `operators/fits` holds one. The loss is one number for each row, and the gradient
that of their sum, so that rows stay independent.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from overpaint.operators.diffusion.method import EXAMPLE_STEPS
from overpaint.operators.diffusion.request import EditRequest
from overpaint.pipeline.columns import Column
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.variant import Variant

if TYPE_CHECKING:
    from overpaint.operators.diffusion.batch import Batch


class FitMethod(Variant, ABC):
    """A way of fitting a model's inputs to an inverted source."""

    family: ClassVar[str]
    """Mechanism of the survey that it belongs to, F01 to F18."""
    needs: ClassVar[tuple[Column, ...]]
    """Columns of the inversion that it starts from."""
    outputs: ClassVar[tuple[Column, ...]]
    """Columns that it hands on; they never leave their actor."""

    @classmethod
    def facts(cls) -> dict[str, str]:
        """Returns needs, results and papers of the fit."""
        return {
            "needs": ", ".join(column.name for column in cls.needs),
            "gives": ", ".join(column.name for column in cls.outputs),
            "evaluations": f"{cls().cost(EXAMPLE_STEPS)} of {EXAMPLE_STEPS} inverted steps",
            **super().facts(),
            "family": cls.family,
        }

    @abstractmethod
    def cost(self, num_inference_steps: int) -> Cost:
        """Returns the network evaluations for one row, at most.

        Args:
            num_inference_steps: those of the inversion.
        """

    @abstractmethod
    def fit(self, batch: "Batch") -> list[Mapping[str, Any]]:
        """Fits a full batch; returns the values of `outputs` for each row.

        Args:
            batch: requests with the columns of `needs` among their values.
        """

    def run(self, requests: Sequence[EditRequest], model: Any) -> list[Mapping[str, Any]]:
        """Fits inverted sources with frames of one size."""
        from overpaint.operators.diffusion.batch import Batch

        return self.fit(Batch(requests, model, num_inference_steps=None, walked=range))
