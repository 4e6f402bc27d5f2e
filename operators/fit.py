"""`fit`: optimises something for each inverted source, such as prompts by which guidance keeps it.

A fit of `operators/fits` does it. Its result stays in the actor, where an `edit` of the same group
reads it. It takes many network evaluations, forward and backward.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from overpaint.operators.diffusion.fitting import FitMethod
from overpaint.operators.diffusion.inversion_operator import InversionOperator
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.fits import FITS
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.operator import Operator

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel

_NO_PICTURE = np.zeros((0, 0, 3), np.uint8)


class Fit(InversionOperator):
    """Fits inputs of the model to each inverted source."""

    variants = FITS
    default_method = "null_text"

    @property
    def fit(self) -> FitMethod:
        """The fit with its fields."""
        assert isinstance(self.settings, FitMethod)
        return self.settings

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The columns of the inversion that the fit starts from."""
        return self.fit.needs

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The columns that the fit hands on."""
        return self.fit.outputs

    def cost(self, row: Row, sources: Mapping[str, Operator[Any]]) -> Cost:
        """Returns the network evaluations for one source, at most."""
        del row
        inversion: Any = sources[self.inputs[0].name]
        return self.fit.cost(inversion.settings.num_inference_steps)

    def bucket(self, row: Row) -> Hashable:
        """Returns the size and the steps of the inversion."""
        inverted = row[self.inputs[0].name]
        return inverted.frame.size, inverted.num_inference_steps

    def prepare(self, row: Row, model: "LatentModel", /) -> EditRequest:
        """Returns the inverted source.

        Raises:
            RowError: `inversion_mismatch`.
        """
        values = {column.name: row[column.name] for column in self.inputs}
        inverted = values[self.inputs[0].name]
        if inverted.identity != model.identity:
            raise RowError("inversion_mismatch", "the source was inverted with other weights")
        return EditRequest(frame=inverted.frame, picture=_NO_PICTURE, values=values)

    def infer(
        self, inputs: Sequence[EditRequest], model: "LatentModel", /
    ) -> list[Mapping[str, Any]]:
        """Fits a batch of inverted sources of one shape."""
        return self.fit.run(inputs, model)
