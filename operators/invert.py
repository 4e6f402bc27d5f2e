"""`invert`: finds the noise that a diffusion model would turn back into the source.

DDIM inversion ("Denoising Diffusion Implicit Models", arXiv 2010.02502) under the source prompt.
The whole path is kept, so that an edit can hold what it must not change exactly to the source.
"""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from overpaint.operators.diffusion.inversion import Inversion
from overpaint.operators.diffusion.method import TEXT_TO_IMAGE
from overpaint.operators.framing.frame import UNET_SHAPES, Fit, Frame, view
from overpaint.operators.framing.region import frame_row, picture_bucket
from overpaint.operators.models.checkpoint import Checkpoint
from overpaint.operators.models.device import DtypeName
from overpaint.pipeline.columns import (
    CAPTION,
    HEIGHT_PX,
    INVERSION,
    MASK_IMAGE,
    SOURCE_IMAGE,
    SOURCE_PROMPT,
    WIDTH_PX,
    Column,
    Row,
)
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import Pixels, decode
from overpaint.pipeline.operator import Kind, ModelOperator, NewColumns
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel


class _Placed(NamedTuple):
    """A row as the model sees it: its frame, the picture in the frame, and its prompt."""

    frame: Frame
    picture: Pixels
    prompt: str


class Invert(ModelOperator[Any, _Placed, Any]):
    """Walks each source back to noise under its prompt (`source_prompt`, else `caption`)."""

    kind: ClassVar[Kind] = "invert"

    checkpoint: str = "papercut"
    """A text-to-image checkpoint: "papercut", a folder, or a hub id."""
    revision: str | None = None
    """Commit, tag or branch of a hub id."""
    variant: str | None = None
    """Variant of the weight files, such as `fp16`."""
    dtype: DtypeName = "float32"
    """Number type of the weights."""
    num_inference_steps: int = Field(default=25, ge=1, le=1000)
    """Steps of the path; `edit` walks the same ones back."""
    num_fixed_point_iterations: int = Field(default=0, ge=0, le=20)
    """Further UNet calls a step that make the inversion more exact (arXiv 2309.04907)."""
    resolution: int = Field(default=0, ge=0, le=8192)
    """Side in pixels of the square that the model sees; 0 is the checkpoint's own."""
    fit: Fit = "whole"
    """`whole` shows the model the whole image, `crop` a square around the mask."""
    crop_margin: float = Field(default=0.25, ge=0.125, le=8)
    """Context around the mask on each side, as a share of the masked box's longer side."""
    batch_size: int = Field(default=8, ge=1, le=4096)
    """Rows in one model call."""
    num_threads: int = Field(default=1, ge=1, le=256)
    """CPU threads of a model call; they change the last digit."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source; the mask where the picture is cropped around it."""
        mask = (MASK_IMAGE,) if self.fit == "crop" else ()
        return (SOURCE_IMAGE, WIDTH_PX, HEIGHT_PX, *mask)

    @property
    def optional(self) -> tuple[Column, ...]:
        """What describes the source; with neither, it is inverted without words."""
        return (SOURCE_PROMPT, CAPTION)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The path to noise."""
        return (INVERSION,)

    def check(self) -> None:
        """Looks whether the checkpoint is there and is a text-to-image one.

        Raises:
            ValueError: it is not.
        """
        self._weights.check(TEXT_TO_IMAGE)

    def revisions(self) -> dict[str, str]:
        """The exact weights."""
        return {"checkpoint": self._weights.identity()}

    def bucket(self, row: Row) -> Hashable:
        """The shape of the picture that the model sees."""
        return picture_bucket(row, UNET_SHAPES, self.fit)

    def load(self) -> "LatentModel":
        """The model, shared with an `edit` that uses the same checkpoint."""
        from overpaint.operators.diffusion.latent_model import load_latent_model

        return load_latent_model(self._weights)

    def relieve(self, model: Any, *, exact: bool) -> str | None:
        """Offloads the model's parts, or slices its VAE."""
        from overpaint.operators.diffusion.latent_model import relieve

        return relieve(model, exact=exact)

    def prepare(self, row: Row, model: Any) -> _Placed:
        """Returns a source as the model sees it.

        Raises:
            RowError: the source cannot be decoded.
        """
        frame = self._frame(row, model)
        prompt = row.get("source_prompt") or row.get("caption") or ""
        return _Placed(frame, _view(row, frame), prompt)

    def infer(self, inputs: Sequence[_Placed], model: Any) -> list[Any]:
        """Inverts a batch of sources of one shape."""
        import torch
        from overpaint.operators.diffusion import latents as autoencode
        from overpaint.operators.diffusion import prompts as text
        from overpaint.operators.diffusion.sampling import invert
        from overpaint.operators.diffusion.schedule import make_schedule

        pictures = [placed.picture for placed in inputs]
        path = invert(
            model,
            autoencode.encode(model, autoencode.to_tensor(pictures, model.device)),
            make_schedule(model.scheduler_config, self.num_inference_steps),
            text.embed(model, [placed.prompt for placed in inputs]),
            self.num_fixed_point_iterations,
        )
        return [torch.stack([latents[i] for latents in path]) for i in range(len(inputs))]

    def answer(self, row: Row, placed: _Placed, path_scyx: Any, model: Any) -> NewColumns:
        """Returns the path to noise.

        Raises:
            RowError: `nan_in_result`.
        """
        del row
        return {"inversion": _inversion(model, placed.frame, placed.prompt, path_scyx)}

    @property
    def _weights(self) -> Checkpoint:
        return Checkpoint(
            name=self.checkpoint, revision=self.revision, variant=self.variant, dtype=self.dtype
        )

    def _frame(self, row: Row, model: "LatentModel") -> Frame:
        resolution_px = self.resolution or model.resolution_px
        return frame_row(
            row, UNET_SHAPES, self.fit, resolution_px, model.multiple_px, self.crop_margin
        )


def _view(row: Row, frame: Frame) -> Pixels:
    return view(frame, decode(row["source_image"]).rgb)


def _inversion(model: "LatentModel", frame: Frame, prompt: str, path_scyx: Any) -> Inversion:
    if not bool(path_scyx.isfinite().all()):
        raise RowError("nan_in_result", "the inversion holds values that are not finite")
    return Inversion(
        checkpoint=model.checkpoint,
        identity=model.identity,
        frame=frame,
        prompt=prompt,
        path_scyx=path_scyx,
    )
