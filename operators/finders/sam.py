"""Masks from a box or points by SAM (Segment Anything, arXiv 2304.02643)."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from overpaint.operators.framing.masks import Box
from overpaint.operators.models import sam
from overpaint.operators.models.finder import Finder, Finding
from overpaint.operators.models.sam import Point, Selection
from overpaint.operators.models.weights import PAPERCUT, Checkpoint, DtypeName
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import decode
from overpaint.pipeline.variant import Variant
from PIL import Image
from pydantic import Field

MASK_BOX = Column(
    "mask_box", pa.list_(pa.float64()), "left, top, right, bottom of the region, px of the source"
)
MASK_POINTS = Column(
    "mask_points",
    pa.list_(pa.list_(pa.float64())),
    "places in the region as [x, y], px of the source; [x, y, 0] is one outside it",
)


class SelectionSearch(NamedTuple):
    """A source and what selects a region in it.

    Attributes:
        image: the source.
        selection: a box, points, or both.
    """

    image: Image.Image
    selection: Selection


class SAMFields(Variant):
    """Fields of a finder that uses SAM."""

    sam_checkpoint: str = PAPERCUT
    """A SAM: "papercut", a local folder, or a hub id."""
    sam_revision: str | None = None
    """Commit, tag or branch of a hub id; null stands for `main`."""
    sam_threshold: float = Field(default=0.5, gt=0, lt=1)
    """Least probability with which SAM counts a place to the region."""

    def check_sam(self) -> None:
        """Checks that the SAM is there."""
        self._sam_weights("float32").check()

    def sam_revisions(self) -> dict[str, str]:
        """Returns the weights of the SAM."""
        return {"sam_checkpoint": self._sam_weights("float32").identity()}

    def load_sam(self, dtype: DtypeName) -> Any:
        """Loads the SAM."""
        return sam.load(self._sam_weights(dtype))

    def _sam_weights(self, dtype: DtypeName) -> Checkpoint:
        return Checkpoint(
            name=self.sam_checkpoint,
            part=sam.PART,
            revision=self.sam_revision,
            dtype=dtype,
            field="sam_checkpoint",
        )


class SAMFinder(Finder, SAMFields):
    """Cuts out what a box or points select."""

    papers = ("2304.02643",)

    @property
    def optional(self) -> tuple[Column, ...]:
        """The box and the points."""
        return (MASK_BOX, MASK_POINTS)

    def check(self) -> None:
        """Checks that the SAM is there."""
        self.check_sam()

    def revisions(self) -> dict[str, str]:
        """Returns the weights of the SAM."""
        return self.sam_revisions()

    def bucket(self, row: Row) -> Hashable:
        """Returns the form of the selection: those of one form share a call."""
        return _form(row)

    def load(self, dtype: DtypeName) -> Any:
        """Loads the SAM."""
        return self.load_sam(dtype)

    def prepare(self, row: Row) -> Any:
        """Returns the source and its selection."""
        return SelectionSearch(decode(row["source_image"]).image(), _selection(row))

    def find(self, inputs: Sequence[Any], model: Any, *, keep_largest: bool) -> Sequence[Any]:
        """Returns the region of each source that its selection means."""
        del keep_largest
        images, selections = [s.image for s in inputs], [s.selection for s in inputs]
        return sam.select(model, images, selections, self.sam_threshold)

    def finding(self, row: Row, search: Any, output: Any) -> Finding:
        """Returns the region, and whether a box or points selected it."""
        del search
        return Finding(output, "sam_points" if row.get("mask_box") is None else "sam_box")


def _form(row: Row) -> tuple[bool, int]:
    points: Any = row.get("mask_points")
    return row.get("mask_box") is not None, 0 if points is None else len(points)


def _selection(row: Row) -> Selection:
    if _form(row) == (False, 0):
        raise RowError("mask_prompt_missing", "the row has neither mask_box nor mask_points")
    box: Any = row.get("mask_box")
    if box is not None and not (len(box) == 4 and box[0] < box[2] and box[1] < box[3]):
        raise RowError("mask_prompt_invalid", "mask_box is not left < right, top < bottom")
    points: Any = row.get("mask_points")
    if points is not None and any(len(point) not in (2, 3) for point in points):
        raise RowError("mask_prompt_invalid", "a point of mask_points is not [x, y] or [x, y, 0]")
    return Selection(
        None if box is None else Box(*map(float, box)),
        tuple(
            Point(float(point[0]), float(point[1]), len(point) == 2 or point[2] > 0)
            for point in (() if points is None else points)
        ),
    )
