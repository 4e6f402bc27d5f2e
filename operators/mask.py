"""`mask`: finds in each source the region that an edit may change.

A finder of `operators/finders` finds it; here every region is cleaned and dilated in one way.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from overpaint.operators.finders import FINDERS
from overpaint.operators.framing import masks
from overpaint.operators.models.finder import Finder
from overpaint.operators.models.uses_checkpoint import TorchOperator
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.images import encode_mask
from overpaint.pipeline.operator import (
    IN_FINGERPRINT_UNLESS_DEFAULT,
    Kind,
    ModelOperator,
    NewColumns,
    Operator,
    Rejected,
)
from overpaint.pipeline.variant import VariantOperator
from pydantic import Field

MASK_AREA = c.score("mask_area", "share of the source that the mask covers, 0 to 1")


class Mask(TorchOperator[Any], VariantOperator[Any], ModelOperator[Any, Any, Any]):
    """Finds the region of each source that an edit may change."""

    kind: ClassVar[Kind] = "mask"
    variants = FINDERS
    default_method = "clipseg"

    keep_largest: bool = False
    """Whether only the largest connected part is kept."""
    fill_holes: bool = False
    """Whether what the region encloses belongs to it."""
    dilate_px: int = Field(default=0, ge=0, le=1024)
    """Width by which the region is dilated at the end, in pixels of the source."""
    invert: bool = Field(default=False, json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT)
    """Whether all but the region, dilated, may change: a new background."""
    min_area: float = Field(default=0.0, ge=0, lt=1)
    """A region that covers less of the source than this share counts as empty."""

    @property
    def finder(self) -> Finder:
        """The finder with its fields."""
        assert isinstance(self.settings, Finder)
        return self.settings

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source, and what the finder needs."""
        return (c.SOURCE_IMAGE, *self.finder.inputs)

    @property
    def optional(self) -> tuple[Column, ...]:
        """The columns that the finder uses where the plan has them."""
        return self.finder.optional

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The mask, its origin and size, and what the finder adds."""
        return (c.MASK_IMAGE, c.MASK_SOURCE, MASK_AREA, *self.finder.outputs)

    def check(self) -> None:
        """Checks that the finder's models are there."""
        self.finder.check()

    def revisions(self) -> dict[str, str]:
        """Returns the weights of the finder's models."""
        return self.finder.revisions()

    def cost(self, row: Row, sources: Mapping[str, Operator[Any]]) -> Cost:
        """Returns the evaluations of an editor's networks that the finder needs."""
        del row, sources
        return self.finder.cost()

    def bucket(self, row: Row) -> Hashable:
        """Returns what must agree in one call of the finder."""
        return self.finder.bucket(row)

    def load(self) -> Any:
        """Loads the finder's models."""
        return self.finder.load(self.dtype)

    def prepare(self, row: Row, model: Any, /) -> Any:
        """Returns what the finder is to see of a source."""
        del model
        return self.finder.prepare(row)

    def infer(self, inputs: Sequence[Any], model: Any, /) -> Sequence[Any]:
        """Runs the finder."""
        return self.finder.find(inputs, model, keep_largest=self.keep_largest)

    def answer(self, row: Row, input: Any, output: Any, model: Any, /) -> NewColumns | Rejected:
        """Returns the mask of the region; an empty one is rejected with `mask_empty`."""
        del model
        region, source, columns = self.finder.finding(row, input, output)
        if self.keep_largest:
            region = masks.largest_component(region)
        if self.fill_holes:
            region = masks.fill_holes(region)
        area = masks.area_share(region)
        if area == 0 or area < self.min_area:
            return Rejected("mask_empty", f"the region covers {area:.4f} of the source")
        region = masks.dilate(region, self.dilate_px)
        if self.invert:
            region = ~region
        return {
            "mask_image": encode_mask(region.astype(np.uint8) * 255),
            "mask_source": source,
            MASK_AREA.name: masks.area_share(region),
            **columns,
        }
