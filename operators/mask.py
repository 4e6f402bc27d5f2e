"""Mask: finds in each source the region that an edit may change.

CLIPSeg finds what a phrase names; SAM cuts out what a box or points select; `clipseg_sam` lets
CLIPSeg find a box and SAM cut it out.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from overpaint.operators.framing import masks
from overpaint.operators.framing.masks import Box, Heat, Region
from overpaint.operators.measures import phrases
from overpaint.operators.models import clipseg, device, sam
from overpaint.operators.models import weights as checkpoints
from overpaint.operators.models.sam import Point, Selection
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import decode, encode_mask
from overpaint.pipeline.operator import Kind, ModelOperator, NewColumns, Rejected
from PIL import Image
from pydantic import Field

MASK_AREA = c.score("mask_area", "how much of the source the mask covers, 0 to 1")
MASK_BOX = Column(
    "mask_box", pa.list_(pa.float64()), "left, top, right, bottom of the region, px of the source"
)
MASK_POINTS = Column(
    "mask_points",
    pa.list_(pa.list_(pa.float64())),
    "places in the region as [x, y], px of the source; [x, y, 0] is one outside it",
)

_PHRASE_COLUMNS = {
    column.name: column for column in (c.MASK_PHRASE, c.INSTRUCTION, c.SOURCE_PROMPT, c.CAPTION)
}
_AUTO = (c.MASK_PHRASE.name, c.INSTRUCTION.name, c.SOURCE_PROMPT.name)


@dataclass(frozen=True, slots=True)
class Masker:
    """The loaded models; null where the method does not use one."""

    clipseg: clipseg.Clipseg | None
    sam: sam.Sam | None


class _Search(NamedTuple):
    """What the models are to look for in one source.

    Attributes:
        size: width and height of the source in pixels.
        small: the source for CLIPSeg; None where the method does not use it.
        phrase: what CLIPSeg looks for; empty where the method does not use it.
        image: the source for SAM; None where the method does not use it.
        selection: what SAM cuts out; None where CLIPSeg finds it or SAM is not used.
    """

    size: tuple[int, int]
    small: Image.Image | None
    phrase: str
    image: Image.Image | None
    selection: Selection | None


class Mask(ModelOperator[Masker, _Search, Any]):
    """Finds the region of each source that an edit may change."""

    kind: ClassVar[Kind] = "mask"

    method: Literal["clipseg", "sam", "clipseg_sam"] = "clipseg"
    """What finds the region: a phrase, a box or points, or a phrase and then its box."""
    checkpoint: str = checkpoints.PAPERCUT
    """A CLIPSeg: "papercut", a local folder, or a hub id."""
    revision: str | None = None
    """The commit, tag or branch of a hub id; null stands for `main`."""
    sam_checkpoint: str = checkpoints.PAPERCUT
    """A SAM: "papercut", a local folder, or a hub id."""
    sam_revision: str | None = None
    """The commit, tag or branch of a hub id; null stands for `main`."""
    dtype: device.DtypeName = "float32"
    """The number type of the weights and of all that is computed with them."""
    num_threads: int = Field(default=1, ge=1, le=256)
    """CPU threads of one model call; the last digit of a sum depends on it."""
    batch_size: int = Field(default=8, ge=1, le=4096)
    """Images in one model call."""
    phrase_from: Literal["auto", "mask_phrase", "instruction", "source_prompt", "caption"] = "auto"
    """The column that says what to look for. "instruction" takes the thing that it names; "auto" is
    the first that a row has of mask_phrase, instruction and source_prompt."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """The least probability with which CLIPSeg sees the phrase; photographs often want 0.3."""
    sam_threshold: float = Field(default=0.5, gt=0, lt=1)
    """The least probability with which SAM counts a place to the region."""
    keep_largest: bool = False
    """Whether only the largest connected part is kept."""
    fill_holes: bool = False
    """Whether what the region encloses belongs to it."""
    dilate_px: int = Field(default=0, ge=0, le=1024)
    """How far the region is grown at the end, in pixels of the source."""
    min_area: float = Field(default=0.0, ge=0, lt=1)
    """A region that covers less of the source than this share counts as empty."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source, and the phrase's column where one is chosen."""
        if self._uses_phrase and self.phrase_from != "auto":
            return (c.SOURCE_IMAGE, _PHRASE_COLUMNS[self.phrase_from])
        return (c.SOURCE_IMAGE,)

    @property
    def optional(self) -> tuple[Column, ...]:
        """Where a phrase may stand, or the box and the points."""
        if not self._uses_phrase:
            return (MASK_BOX, MASK_POINTS)
        if self.phrase_from == "auto":
            return tuple(_PHRASE_COLUMNS[name] for name in _AUTO)
        return ()

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The mask, how it was made, and its size."""
        return (c.MASK_IMAGE, c.MASK_SOURCE, MASK_AREA)

    @property
    def _uses_phrase(self) -> bool:
        return self.method != "sam"

    @property
    def _uses_sam(self) -> bool:
        return self.method != "clipseg"

    def check(self) -> None:
        """Looks whether the models are there."""
        if self._uses_phrase:
            checkpoints.check("checkpoint", self.checkpoint, clipseg.PART, self.revision)
        if self._uses_sam:
            checkpoints.check("sam_checkpoint", self.sam_checkpoint, sam.PART, self.sam_revision)

    def revisions(self) -> dict[str, str]:
        """The weights of the models that the method uses."""
        found: dict[str, str] = {}
        if self._uses_phrase:
            found["checkpoint"] = checkpoints.identity(self.checkpoint, self.revision, clipseg.PART)
        if self._uses_sam:
            found["sam_checkpoint"] = checkpoints.identity(
                self.sam_checkpoint, self.sam_revision, sam.PART
            )
        return found

    def bucket(self, row: Row) -> Hashable:
        """Selections of one form share a call of SAM."""
        return _form(row) if self.method == "sam" else None

    def load(self) -> Masker:
        """Loads the models that the method uses."""
        finder = cutter = None
        if self._uses_phrase:
            finder = clipseg.load(self.checkpoint, self.revision, self.dtype)
        if self._uses_sam:
            cutter = sam.load(self.sam_checkpoint, self.sam_revision, self.dtype)
        return Masker(finder, cutter)

    def prepare(self, row: Row, model: Masker) -> _Search:
        """Returns what to look for in a source."""
        del model
        picture = decode(row["source_image"])
        return _Search(
            (picture.width_px, picture.height_px),
            picture.small_image() if self._uses_phrase else None,
            self._phrase(row) if self._uses_phrase else "",
            picture.image() if self._uses_sam else None,
            None if self._uses_phrase else _selection(row),
        )

    def infer(self, inputs: Sequence[_Search], model: Masker) -> Sequence[Any]:
        """Returns what the last model of the method says of each source."""
        if self.method == "sam":
            selections = [search.selection for search in inputs if search.selection]
            return self._cut_out(model, inputs, selections)
        assert model.clipseg is not None
        small = [search.small for search in inputs if search.small]
        heats = clipseg.find(model.clipseg, small, [search.phrase for search in inputs])
        if self.method == "clipseg":
            return heats
        found = [
            self._region(heat, search.size) for heat, search in zip(heats, inputs, strict=True)
        ]
        return self._cut_out_found(model, inputs, found)

    def answer(self, row: Row, search: _Search, found: Any, model: Masker) -> NewColumns | Rejected:
        """Returns the mask of the region; an empty one is rejected with `mask_empty`."""
        del model
        if self.method == "clipseg":
            found = self._region(found, search.size)
        source: str = self.method
        if self.method == "sam":
            source = "sam_points" if row.get(MASK_BOX.name) is None else "sam_box"
        return self._answer(found, source)

    def _region(self, heat: Heat, size: tuple[int, int]) -> Region:
        found = masks.scaled(heat, *size) >= self.threshold
        return masks.largest_component(found) if self.keep_largest else found

    def _cut_out(
        self, model: Masker, inputs: Sequence[_Search], selections: list[Selection]
    ) -> list[Region]:
        assert model.sam is not None
        images = [search.image for search in inputs if search.image]
        return sam.select(model.sam, images, selections, self.sam_threshold)

    def _cut_out_found(
        self, model: Masker, inputs: Sequence[_Search], found: list[Region]
    ) -> list[Region]:
        # A row without a region keeps its place in the call: the batch has one shape.
        boxes = [masks.bounding_box(region) for region in found]
        selections = [
            Selection(Box(*map(float, box or (0, 0, *search.size))))
            for box, search in zip(boxes, inputs, strict=True)
        ]
        return [
            region if box else np.zeros_like(region)
            for region, box in zip(self._cut_out(model, inputs, selections), boxes, strict=True)
        ]

    def _answer(self, region: Region, source: str) -> NewColumns | Rejected:
        if self.keep_largest:
            region = masks.largest_component(region)
        if self.fill_holes:
            region = masks.fill_holes(region)
        area = masks.area_share(region)
        if area == 0 or area < self.min_area:
            return Rejected("mask_empty", f"the region covers {area:.4f} of the source")
        region = masks.dilate(region, self.dilate_px)
        return {
            c.MASK_IMAGE.name: encode_mask(region.astype(np.uint8) * 255),
            c.MASK_SOURCE.name: source,
            MASK_AREA.name: masks.area_share(region),
        }

    def _phrase(self, row: Row) -> str:
        names = _AUTO if self.phrase_from == "auto" else (self.phrase_from,)
        for name in names:
            text: str | None = row.get(name)
            wanted = phrases.changed_thing(text) if text and name == "instruction" else text
            if wanted:
                return wanted
        raise RowError(
            "mask_phrase_missing",
            "nothing says what to look for: give the row a mask_phrase, or an instruction that "
            "names a thing",
        )


def _form(row: Row) -> tuple[bool, int]:
    points: Any = row.get(MASK_POINTS.name)
    return row.get(MASK_BOX.name) is not None, 0 if points is None else len(points)


def _selection(row: Row) -> Selection:
    if _form(row) == (False, 0):
        raise RowError("mask_prompt_missing", "the row has neither mask_box nor mask_points")
    box: Any = row.get(MASK_BOX.name)
    if box is not None and not (len(box) == 4 and box[0] < box[2] and box[1] < box[3]):
        raise RowError("mask_prompt_invalid", "mask_box is not left < right, top < bottom")
    points: Any = row.get(MASK_POINTS.name)
    if points is not None and any(len(point) not in (2, 3) for point in points):
        raise RowError("mask_prompt_invalid", "a point of mask_points is not [x, y] or [x, y, 0]")
    return Selection(
        None if box is None else Box(*map(float, box)),
        tuple(
            Point(float(point[0]), float(point[1]), len(point) == 2 or point[2] > 0)
            for point in (() if points is None else points)
        ),
    )
