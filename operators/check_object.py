"""`check_object`: whether a thing that was to come is there, and one that was to go is gone.

Edits of the types add, replace and remove are checked, as in EditVal (arXiv 2310.02426) and AnyEdit
(arXiv 2411.15738); others have nulls. The detector is a CLIPSeg or any model of transformers'
zero-shot object detection:

    [[stage]]
    operator = "check_object"
    checkpoint = "google/owlv2-base-patch16-ensemble"
    threshold = 0.1                 # EditVal's for OWL-ViT
"""

import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from overpaint.operators.framing.masks import Region
from overpaint.operators.measures.edit_words import EDIT_WORDS, EditWords, words_of
from overpaint.operators.measures.pair import MASKS, PAIR, read_pair
from overpaint.operators.models import detector
from overpaint.operators.models.detector import Detector
from overpaint.operators.models.uses_checkpoint import UsesCheckpoint
from overpaint.pipeline.columns import Column, Row, score
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import MAY_CHANGE
from overpaint.pipeline.operator import Answer, Calls, Kind, NewColumns, row_error_as_answer
from PIL import Image
from pydantic import Field

OLD_BEFORE = score("old_object_before", "how surely the source shows what was to go, 0 to 1")
OLD_AFTER = score("old_object_after", "how surely the edit still shows what was to go, 0 to 1")
NEW_BEFORE = score("new_object_before", "how surely the source shows what was to come, 0 to 1")
NEW_AFTER = score("new_object_after", "how surely the edit shows what was to come, 0 to 1")
OBJECT_CHECK = score("object_check", "1 where what was to come is there and what was to go is gone")

_GOES, _COMES = ("remove", "replace"), ("add", "replace")


class _Search(NamedTuple):
    """Pictures of a row, and what is looked for.

    Attributes:
        source: the source.
        edited: the edit.
        region: places that count; None for all.
        words: the edit in words.
    """

    source: Image.Image
    edited: Image.Image
    region: Region | None
    words: EditWords


class CheckObject(UsesCheckpoint[Detector]):
    """Looks for what an edit adds, replaces or removes, before and after it.

    A thing is there where the detector is as sure as `threshold`, within the mask that was really
    editable. `object_check` is 1 or 0; it is null for other types of edits, where no words say what
    to look for, and where the thing that was to go is not found in the source.
    """

    kind: ClassVar[Kind] = "score"
    part: ClassVar[str] = detector.PART

    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Least surety of a thing that is there: 0.5 for CLIPSeg's heat, 0.1 for OWL-ViT's boxes, 0.3
    for Grounding DINO's."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """Both images."""
        return PAIR

    @property
    def optional(self) -> tuple[Column, ...]:
        """The masks, and the words of the edit."""
        return (*MASKS, *EDIT_WORDS)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The sureties, and the check."""
        return (OLD_BEFORE, OLD_AFTER, NEW_BEFORE, NEW_AFTER, OBJECT_CHECK)

    def load(self) -> Detector:
        """Loads the detector."""
        return detector.load(self.weights)

    def run(self, rows: Sequence[Row], model: Detector) -> list[Answer]:
        """Checks each row."""
        return self.run_by(rows, model, Calls())

    def run_by(self, rows: Sequence[Row], model: Detector, calls: Calls) -> list[Answer]:
        """Decodes rows beside the models, and looks at one after the other."""
        searches = calls.beside(lambda row: row_error_as_answer(_search, row), rows)
        return [
            calls.model(row_error_as_answer, self._checked, search, model)
            if isinstance(search, _Search)
            else search
            for search in searches
        ]

    def _checked(self, search: _Search, model: Detector) -> NewColumns:
        kind, old, new = search.words
        found: dict[str, float | None] = {column.name: None for column in self.outputs}
        goes, comes = kind in _GOES, kind in _COMES
        if goes and old:
            found[OLD_BEFORE.name] = _surety(model, search.source, old, search.region)
            found[OLD_AFTER.name] = _surety(model, search.edited, old, search.region)
        if comes and new:
            found[NEW_BEFORE.name] = _surety(model, search.source, new, search.region)
            found[NEW_AFTER.name] = _surety(model, search.edited, new, search.region)
        found[OBJECT_CHECK.name] = self._check(found, goes, comes)
        return found

    def _check(self, found: dict[str, float | None], goes: bool, comes: bool) -> float | None:
        """Returns 1 where all that is asked is so, 0 where it is not, None where nothing tells."""
        before, after = found[OLD_BEFORE.name], found[OLD_AFTER.name]
        there = found[NEW_AFTER.name]
        if not (goes or comes) or (goes and after is None) or (comes and there is None):
            return None
        if goes and before is not None and before < self.threshold:
            return None
        is_gone = after is None or after < self.threshold
        is_there = there is None or there >= self.threshold
        return float(is_gone and is_there)


def _search(row: Row) -> _Search:
    pair = read_pair(row)
    region = None if pair.mask is None else pair.mask >= MAY_CHANGE
    return _Search(
        Image.fromarray(pair.source), Image.fromarray(pair.edited), region, words_of(row)
    )


def _surety(model: Detector, image: Image.Image, phrase: str, region: Region | None) -> float:
    surety = model.surety(image, phrase, region)
    if not math.isfinite(surety):
        raise RowError("nan_in_result", "the detector's scores hold no numbers: try dtype float32")
    return surety
