"""Operators whose results stay in their actor: inversions, and fits to them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from overpaint.operators.diffusion.method import TEXT_TO_IMAGE
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.models.uses_checkpoint import UsesPipeline
from overpaint.pipeline.columns import Row
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.operator import Kind, ModelOperator, NewColumns
from overpaint.pipeline.variant import VariantOperator

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel


class InversionOperator(
    UsesPipeline[Any], VariantOperator[Any], ModelOperator[Any, EditRequest, Mapping[str, Any]]
):
    """Operator on a text-to-image model that hands live values to an `edit` of its group."""

    kind: ClassVar[Kind] = "invert"
    pipelines = TEXT_TO_IMAGE

    def load(self) -> "LatentModel":
        """Loads the model; every operator of the actor with the same checkpoint shares it."""
        from overpaint.operators.diffusion.latent_model import load_latent_model

        return load_latent_model(self.weights)

    def free_memory(self, model: "LatentModel", *, exact: bool) -> str | None:
        """Offloads the model's parts, or slices its VAE."""
        from overpaint.operators.diffusion.latent_model import free_memory

        return free_memory(model, exact=exact)

    def answer(
        self, row: Row, input: EditRequest, output: Mapping[str, Any], model: "LatentModel", /
    ) -> NewColumns:
        """Hands on the values of one row.

        Raises:
            RowError: `nan_in_result`.
        """
        del row, input, model
        if not all(value.is_finite() for value in output.values()):
            raise RowError("nan_in_result", "the result holds values that are not finite")
        return output
