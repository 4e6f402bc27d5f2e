"""Masks by proposals: boxes around salient points, ranked by CLIP (arXiv 2311.16432)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from overpaint.operators.controls.box_proposals import BoxProposals, load_attending, pixels_of
from overpaint.operators.framing.masks import Box
from overpaint.operators.measures import phrases
from overpaint.operators.models import clip
from overpaint.operators.models.finder import Finder, Finding
from overpaint.operators.models.uses_checkpoint import CheckpointFields
from overpaint.operators.models.weights import Checkpoint, DtypeName
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row, first_text
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import decode
from PIL import Image


class ProposalSearch(NamedTuple):
    """A source and the words for what to find in it.

    Attributes:
        image: the source, small.
        phrase: words for what to find.
    """

    image: Image.Image
    phrase: str


class ProposalsFinder(BoxProposals, Finder, CheckpointFields):
    """Finds, of boxes around salient points, that which looks most like what a phrase names.

    Candidate 1 of a row gets the second best, and so on. The paper's points are those of DINO, and
    it trains a network of its own for each picture, through edits; here CLIP's own attention gives
    the points, and CLIP compares what is in each box with the words before anything is edited.
    """

    papers = ("2311.16432",)

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source's size, and the number of the candidate."""
        return (c.WIDTH_PX, c.HEIGHT_PX, c.CANDIDATE)

    @property
    def optional(self) -> tuple[Column, ...]:
        """The columns in which a phrase may be."""
        return (c.MASK_PHRASE, c.INSTRUCTION)

    def check(self) -> None:
        """Checks that the CLIP is there."""
        self._weights("float32").check()

    def revisions(self) -> dict[str, str]:
        """Returns the weights of the CLIP."""
        return {"checkpoint": self._weights("float32").identity()}

    def cost(self) -> Cost:
        """Counts the boxes, the picture that is attended to, and the phrase."""
        return Cost(clip=self.num_embeddings)

    def load(self, dtype: DtypeName) -> Any:
        """Loads a CLIP that tells its attention."""
        return load_attending(self._weights(dtype))

    def prepare(self, row: Row) -> ProposalSearch:
        """Returns the source and its phrase.

        Raises:
            RowError: `mask_phrase_missing`.
        """
        named = first_text(row, c.MASK_PHRASE)
        phrase = named or phrases.changed_thing(first_text(row, c.INSTRUCTION) or "")
        if not phrase:
            raise RowError(
                "mask_phrase_missing", "neither mask_phrase nor the instruction names it"
            )
        return ProposalSearch(decode(row["source_image"]).small_image(), phrase)

    def find(
        self, inputs: Sequence[ProposalSearch], model: Any, *, keep_largest: bool
    ) -> Sequence[list[Box[float]]]:
        """Returns the boxes of each source, in shares of its sides, best first."""
        del keep_largest
        return self.ranked([each.image for each in inputs], [each.phrase for each in inputs], model)

    def finding(self, row: Row, search: Any, output: Any) -> Finding:
        """Returns the box whose rank is the candidate's number."""
        del search
        box = output[int(row.get("candidate") or 0) % len(output)]
        region = pixels_of(box, row["width_px"], row["height_px"])
        return Finding(region, "proposals")

    def _weights(self, dtype: DtypeName) -> Checkpoint:
        return Checkpoint(name=self.checkpoint, part=clip.PART, revision=self.revision, dtype=dtype)
