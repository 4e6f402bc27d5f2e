"""Masks from words by CLIPSeg (arXiv 2112.10003)."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from overpaint.operators.framing import masks
from overpaint.operators.framing.masks import Heat, Region
from overpaint.operators.measures import phrases
from overpaint.operators.models import clipseg
from overpaint.operators.models.finder import Finder, Finding
from overpaint.operators.models.uses_checkpoint import CheckpointFields
from overpaint.operators.models.weights import Checkpoint, DtypeName
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row, first_text
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import decode
from PIL import Image
from pydantic import Field

PhraseFrom = Literal["auto", "mask_phrase", "instruction", "source_prompt", "caption"]

_COLUMNS = {
    column.name: column for column in (c.MASK_PHRASE, c.INSTRUCTION, c.SOURCE_PROMPT, c.CAPTION)
}
_AUTO = ("mask_phrase", "instruction", "source_prompt")


PHRASE_TOKENS_CUT = c.tokens_cut(
    "mask_phrase", "tokens of what to look for, beyond what the text encoder sees"
)


class FoundPhrase(NamedTuple):
    """Places of a source that show a phrase.

    Attributes:
        places: as CLIPSeg sees them, how surely each place shows the phrase, at the model's
            resolution; cut out by another model, a region of the source.
        tokens_cut: tokens of the phrase that CLIPSeg does not see.
    """

    places: Heat | Region
    tokens_cut: int


class PhraseSearch(NamedTuple):
    """A source and the words for what to find in it.

    Attributes:
        width_px: width of the source.
        height_px: height of the source.
        image: the source as CLIPSeg sees it.
        phrase: words for what to find.
    """

    width_px: int
    height_px: int
    image: Image.Image
    phrase: str


class CLIPSegFinder(Finder, CheckpointFields):
    """Finds what a phrase names."""

    papers = ("2112.10003",)

    phrase_from: PhraseFrom = "auto"
    """Column with the words for what to find. "instruction" takes the thing that it names; "auto"
    is the first that a row has of mask_phrase, instruction and source_prompt."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Least probability with which CLIPSeg sees the phrase; photographs often want 0.3."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The phrase's column where one is chosen."""
        return () if self.phrase_from == "auto" else (_COLUMNS[self.phrase_from],)

    @property
    def optional(self) -> tuple[Column, ...]:
        """The columns in which a phrase may be."""
        return tuple(_COLUMNS[name] for name in _AUTO) if self.phrase_from == "auto" else ()

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The count of tokens that are cut of the phrase."""
        return (PHRASE_TOKENS_CUT,)

    def check(self) -> None:
        """Checks that the CLIPSeg is there."""
        self._weights("float32").check()

    def revisions(self) -> dict[str, str]:
        """Returns the weights of the CLIPSeg."""
        return {"checkpoint": self._weights("float32").identity()}

    def load(self, dtype: DtypeName) -> Any:
        """Loads the CLIPSeg."""
        return clipseg.load(self._weights(dtype))

    def _weights(self, dtype: DtypeName) -> Checkpoint:
        return Checkpoint(
            name=self.checkpoint, part=clipseg.PART, revision=self.revision, dtype=dtype
        )

    def prepare(self, row: Row) -> Any:
        """Returns the source and its phrase."""
        picture = decode(row["source_image"])
        image, phrase = picture.small_image(), self.phrase(row)
        return PhraseSearch(picture.width_px, picture.height_px, image, phrase)

    def find(self, inputs: Sequence[Any], model: Any, *, keep_largest: bool) -> Sequence[Any]:
        """Returns how surely each place shows the phrase, and how much of the phrase was seen."""
        del keep_largest
        images, phrases_of = [s.image for s in inputs], [s.phrase for s in inputs]
        cut = [clipseg.text_length(model, phrase).num_cut for phrase in phrases_of]
        heats = clipseg.find(model, images, phrases_of)
        return [FoundPhrase(*each) for each in zip(heats, cut, strict=True)]

    def finding(self, row: Row, search: Any, output: Any) -> Finding:
        """Returns the places that reach the threshold."""
        del row
        region = self.region(output.places, search)
        return Finding(region, "clipseg", {PHRASE_TOKENS_CUT.name: output.tokens_cut})

    def region(self, heat: Heat, search: PhraseSearch) -> Region:
        """Returns the places of a source that reach the threshold."""
        return masks.scaled(heat, search.width_px, search.height_px) >= self.threshold

    def phrase(self, row: Row) -> str:
        """Returns the words for what to find in a row's source.

        Raises:
            RowError: `mask_phrase_missing`.
        """
        for name in _AUTO if self.phrase_from == "auto" else (self.phrase_from,):
            text = first_text(row, _COLUMNS[name])
            wanted = phrases.changed_thing(text) if text and name == "instruction" else text
            if wanted:
                return wanted
        raise RowError(
            "mask_phrase_missing",
            "nothing says what to look for: give the row a mask_phrase, or an instruction that "
            "names a thing",
        )
