"""Mask finders that ask an editor's own model, which an `edit` of the same actor then shares.

Shapes: b rows, h and w latent pixels.
"""

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from numpy.typing import NDArray
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.method import TEXT_TO_IMAGE
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.framing import masks
from overpaint.operators.framing.frame import UNET_SHAPES, Frame, frame_whole, view
from overpaint.operators.framing.masks import Heat, Region
from overpaint.operators.framing.region import picture_bucket
from overpaint.operators.models.finder import Finder, Finding
from overpaint.operators.models.uses_checkpoint import CheckpointFields
from overpaint.operators.models.weights import Checkpoint, DtypeName
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row, first_text
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import Pixels, decode
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel
    from torch import Tensor


class LatentSearch(NamedTuple):
    """A source and what is asked about it.

    Attributes:
        pixels: the source, RGB uint8 HWC.
        source_prompt: description of the source; empty where there is none.
        prompt: target prompt or instruction.
        seed: seed of the row's generator.
    """

    pixels: Pixels
    source_prompt: str
    prompt: str
    seed: int


class FoundHeat(NamedTuple):
    """Places of a model's picture.

    Attributes:
        frame: frame of the source.
        heat: float32 hw, in units of the row's threshold: above 1 is found.
    """

    frame: Frame
    heat: Heat


class LatentFinder(Finder, CheckpointFields):
    """A finder that asks a latent diffusion model."""

    part: ClassVar[str] = "text_to_image"
    """Papercut checkpoint that it runs on."""
    pipelines: ClassVar[tuple[str, ...]] = TEXT_TO_IMAGE
    """Diffusers pipelines whose checkpoints it takes."""
    prompt: ClassVar[Column] = c.TARGET_PROMPT
    """Column that says what to make."""
    word: ClassVar[str]
    """Word for the column `mask_source`."""

    variant: str | None = None
    """Variant of the weight files, such as `fp16`; null takes a folder's only one."""
    num_inference_steps: int = Field(default=50, ge=1, le=1000)
    """Steps of the schedule in which noise levels are counted; few of them are run."""
    resolution: int = Field(default=0, ge=0, le=8192)
    """Side in pixels of the square that the model sees; 0 is the checkpoint's own."""

    @classmethod
    def facts(cls) -> dict[str, str]:
        """Returns needs, costs and papers of the finder."""
        others = {k: v for k, v in super().facts().items() if k != "needs"}
        return {"needs": cls.prompt.name, "evaluations": str(cls().cost()), **others}

    @abstractmethod
    def heat(self, batch: Batch) -> "Tensor":
        """Returns heat b1hw in units of each row's threshold: above 1 belongs to the region.

        Args:
            batch: rows; `values` has the source prompt of each.
        """

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source's size, the prompt, and the seed of the noise."""
        return (c.WIDTH_PX, c.HEIGHT_PX, self.prompt, c.SEED)

    def check(self) -> None:
        """Checks that the checkpoint is there and is of a kind that the finder takes."""
        self._weights("float32").check(self.pipelines)

    def revisions(self) -> dict[str, str]:
        """Returns the weights of the checkpoint."""
        return {"checkpoint": self._weights("float32").identity()}

    def bucket(self, row: Row) -> Hashable:
        """Returns the shape of the picture that the model sees."""
        return picture_bucket(row, UNET_SHAPES, "whole")

    def load(self, dtype: DtypeName) -> Any:
        """Loads the model, shared with every operator of the actor that uses the checkpoint."""
        from overpaint.operators.diffusion.latent_model import load_latent_model

        return load_latent_model(self._weights(dtype))

    def prepare(self, row: Row) -> LatentSearch:
        """Returns the source and its prompts.

        Raises:
            RowError: `prompt_missing`, or the source cannot be decoded.
        """
        prompt = first_text(row, self.prompt)
        if prompt is None:
            raise RowError("prompt_missing", f"the finder {self.word!r} reads {self.prompt.name}")
        source_prompt = first_text(row, c.SOURCE_PROMPT, c.CAPTION) or ""
        return LatentSearch(decode(row["source_image"]).seen, source_prompt, prompt, row["seed"])

    def find(
        self, inputs: Sequence[LatentSearch], model: "LatentModel", *, keep_largest: bool
    ) -> Sequence[FoundHeat]:
        """Returns the heat of each source."""
        del keep_largest
        requests = [self._request(search, model) for search in inputs]
        steps = self.num_inference_steps
        heat = self.heat(Batch(requests, model, num_inference_steps=steps, walked=range))
        maps: NDArray[Any] = heat[:, 0].float().cpu().numpy()
        return [FoundHeat(r.frame, each) for r, each in zip(requests, maps, strict=True)]

    def finding(self, row: Row, search: LatentSearch, output: FoundHeat) -> Finding:
        """Returns the places above the threshold."""
        del row, search
        return Finding(_region(output), self.word)

    def _request(self, search: LatentSearch, model: "LatentModel") -> EditRequest:
        height_px, width_px = search.pixels.shape[:2]
        shape = UNET_SHAPES.nearest(width_px, height_px)
        side_px = self.resolution or model.resolution_px
        size = UNET_SHAPES.pixels(shape, side_px, model.multiple_px)
        frame = frame_whole(width_px, height_px, size)
        return EditRequest(
            frame=frame,
            picture=view(frame, search.pixels),
            prompt=search.prompt,
            seed=search.seed,
            values={c.SOURCE_PROMPT.name: search.source_prompt},
        )

    def _weights(self, dtype: DtypeName) -> Checkpoint:
        return Checkpoint(
            name=self.checkpoint,
            part=self.part,
            revision=self.revision,
            variant=self.variant,
            dtype=dtype,
        )


def _region(found: FoundHeat) -> Region:
    """Returns the places of a source whose heat is above 1."""
    frame = found.frame
    picture = masks.scaled(found.heat, *frame.size)
    x, y = frame.padding
    content = picture[y : y + frame.content.height_px, x : x + frame.content.width_px]
    return masks.scaled(content, *frame.source) > 1.0
