"""`invert`: finds the noise that a model would turn back into the source.

An inversion of `operators/inversions` does it under the source prompt. Its result stays in the
actor, where an `edit` of the same group reads it.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from overpaint.operators.diffusion.inverting import Inversion
from overpaint.operators.diffusion.method import TEXT_TO_IMAGE
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.framing.frame import UNET_SHAPES, view
from overpaint.operators.framing.region import frame_row, picture_bucket
from overpaint.operators.inversions import INVERSIONS
from overpaint.operators.models.uses_checkpoint import UsesPipeline
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import decode
from overpaint.pipeline.operator import Kind, ModelOperator, NewColumns, Operator
from overpaint.pipeline.variant import VariantOperator

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel


class Invert(
    UsesPipeline[Any], VariantOperator[Any], ModelOperator[Any, EditRequest, Mapping[str, Any]]
):
    """Inverts each source under its prompt (`source_prompt`, else `caption`)."""

    kind: ClassVar[Kind] = "invert"
    variants = INVERSIONS
    default_method = "ddim"
    pipelines: ClassVar[tuple[str, ...]] = TEXT_TO_IMAGE

    @property
    def inversion(self) -> Inversion:
        """The inversion with its fields."""
        assert isinstance(self.settings, Inversion)
        return self.settings

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source; the mask where the picture is cropped around it."""
        source = (c.SOURCE_IMAGE, c.WIDTH_PX, c.HEIGHT_PX)
        return (*source, c.MASK_IMAGE) if self.inversion.fit == "crop" else source

    @property
    def optional(self) -> tuple[Column, ...]:
        """Descriptions of the source; with neither, it is inverted under the empty prompt."""
        return (c.SOURCE_PROMPT, c.CAPTION)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The columns that the inversion hands on."""
        return self.inversion.outputs

    def cost(self, row: Row, sources: Mapping[str, Operator[Any]]) -> Cost:
        """Returns the network evaluations for one source."""
        del row, sources
        return self.inversion.cost()

    def bucket(self, row: Row) -> Hashable:
        """Returns the shape of the picture that the model sees."""
        return picture_bucket(row, UNET_SHAPES, self.inversion.fit)

    def load(self) -> "LatentModel":
        """Loads the model; an `edit` with the same checkpoint shares it."""
        from overpaint.operators.diffusion.latent_model import load_latent_model

        return load_latent_model(self.weights)

    def free_memory(self, model: "LatentModel", *, exact: bool) -> str | None:
        """Offloads the model's parts, or slices its VAE."""
        from overpaint.operators.diffusion.latent_model import free_memory

        return free_memory(model, exact=exact)

    def prepare(self, row: Row, model: "LatentModel", /) -> EditRequest:
        """Frames a row's source.

        Raises:
            RowError: the source or the mask cannot be decoded.
        """
        fields = self.inversion
        resolution_px = fields.resolution or model.resolution_px
        frame = frame_row(
            row, UNET_SHAPES, fields.fit, resolution_px, model.multiple_px, fields.crop_margin
        )
        prompt = row.get("source_prompt") or row.get("caption") or ""
        picture = view(frame, decode(row["source_image"]).rgb)
        return EditRequest(frame=frame, picture=picture, prompt=prompt, values={})

    def infer(
        self, inputs: Sequence[EditRequest], model: "LatentModel", /
    ) -> list[Mapping[str, Any]]:
        """Inverts a batch of sources of one shape."""
        return self.inversion.run(inputs, model)

    def answer(
        self, row: Row, input: EditRequest, output: Mapping[str, Any], model: "LatentModel", /
    ) -> NewColumns:
        """Hands on the inverted source.

        Raises:
            RowError: `nan_in_result`.
        """
        del row, input, model
        if not all(value.is_finite() for value in output.values()):
            raise RowError("nan_in_result", "the inversion holds values that are not finite")
        return output
