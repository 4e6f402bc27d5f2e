"""`invert`: finds the noise that a model would turn back into the source.

An inversion of `operators/inversions` does it under the source prompt. Its result stays in the
actor, where an `edit` of the same group reads it.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from overpaint.operators.diffusion.inversion_operator import InversionOperator
from overpaint.operators.diffusion.inverting import Inversion
from overpaint.operators.diffusion.prompt_length import LimitsPrompts
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.framing.frame import UNET_SHAPES, view
from overpaint.operators.framing.region import frame_row, picture_bucket
from overpaint.operators.inversions import INVERSIONS
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row, first_text
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.images import decode
from overpaint.pipeline.operator import Operator

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel


class Invert(LimitsPrompts, InversionOperator):
    """Inverts each source under its prompt (`source_prompt`, else `caption`)."""

    variants = INVERSIONS
    default_method = "ddim"

    @property
    def inversion(self) -> Inversion:
        """The inversion with its fields."""
        assert isinstance(self.settings, Inversion)
        return self.settings

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source, what the inversion reads, and the mask where the picture is cropped to it."""
        source = (c.SOURCE_IMAGE, c.WIDTH_PX, c.HEIGHT_PX, *self.inversion.reads)
        return (*source, c.MASK_IMAGE) if self.inversion.fit == "crop" else source

    @property
    def optional(self) -> tuple[Column, ...]:
        """Descriptions of the source; with neither, it is inverted under the empty prompt."""
        return (c.SOURCE_PROMPT, c.CAPTION) if self.inversion.prompt == "source" else ()

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

    def prepare(self, row: Row, model: "LatentModel", /) -> EditRequest:
        """Frames a row's source.

        Raises:
            RowError: `prompt_too_long`, or the source or the mask cannot be decoded.
        """
        fields = self.inversion
        resolution_px = fields.resolution or model.resolution_px
        frame = frame_row(
            row, UNET_SHAPES, fields.fit, resolution_px, model.multiple_px, fields.crop_margin
        )
        prompt = first_text(row, *self.optional) or ""
        self.tokens_cut({c.SOURCE_PROMPT.name: model.text_length(prompt)})
        picture = view(frame, decode(row["source_image"]).seen)
        seed = fields.noise_seed(picture, row)
        return EditRequest(frame=frame, picture=picture, prompt=prompt, seed=seed, values={})

    def infer(
        self, inputs: Sequence[EditRequest], model: "LatentModel", /
    ) -> list[Mapping[str, Any]]:
        """Inverts a batch of sources of one shape."""
        return self.inversion.run(inputs, model)
