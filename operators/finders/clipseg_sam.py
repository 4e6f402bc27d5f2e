"""Masks from words by CLIPSeg, cut out by SAM: CLIPSeg finds a box, SAM the region in it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from overpaint.operators.finders.clipseg import (
    PHRASE_TOKENS_CUT,
    CLIPSegFinder,
    FoundPhrase,
    PhraseSearch,
)
from overpaint.operators.finders.sam import SAMFields
from overpaint.operators.framing import masks
from overpaint.operators.framing.masks import Box
from overpaint.operators.models import sam
from overpaint.operators.models.finder import Finding
from overpaint.operators.models.sam import Selection
from overpaint.operators.models.weights import DtypeName
from overpaint.pipeline.columns import Row
from overpaint.pipeline.images import decode
from PIL import Image


class _Search(NamedTuple):
    phrase: PhraseSearch
    image: Image.Image


class _Models(NamedTuple):
    clipseg: Any
    sam: Any


class CLIPSegSAMFinder(CLIPSegFinder, SAMFields):
    """Finds what a phrase names, and cuts it out."""

    papers = ("2112.10003", "2304.02643")

    def check(self) -> None:
        """Checks that both models are there."""
        super().check()
        self.check_sam()

    def revisions(self) -> dict[str, str]:
        """Returns the weights of both models."""
        return {**super().revisions(), **self.sam_revisions()}

    def load(self, dtype: DtypeName) -> Any:
        """Loads both models."""
        return _Models(super().load(dtype), self.load_sam(dtype))

    def prepare(self, row: Row) -> Any:
        """Returns the source as both models see it, and its phrase."""
        return _Search(super().prepare(row), decode(row["source_image"]).image())

    def find(self, inputs: Sequence[Any], model: Any, *, keep_largest: bool) -> Sequence[Any]:
        """Returns what SAM cuts out of the box around what CLIPSeg finds."""
        searches = [search.phrase for search in inputs]
        found = super().find(searches, model.clipseg, keep_largest=keep_largest)
        regions = [self.region(f.places, s) for f, s in zip(found, searches, strict=True)]
        if keep_largest:
            regions = [masks.largest_component(region) for region in regions]
        boxes = [masks.bounding_box(region) for region in regions]
        # A row without a region keeps its place in the call: the batch has one shape.
        selections = [
            Selection(Box(*map(float, box or (0, 0, s.width_px, s.height_px))))
            for box, s in zip(boxes, searches, strict=True)
        ]
        images = [search.image for search in inputs]
        cut_out = sam.select(model.sam, images, selections, self.sam_threshold)
        return [
            FoundPhrase(region if box else np.zeros_like(region), phrase.tokens_cut)
            for region, box, phrase in zip(cut_out, boxes, found, strict=True)
        ]

    def finding(self, row: Row, search: Any, output: Any) -> Finding:
        """Returns what SAM has cut out."""
        del row, search
        cut = {PHRASE_TOKENS_CUT.name: output.tokens_cut}
        return Finding(output.places, "clipseg_sam", cut)
