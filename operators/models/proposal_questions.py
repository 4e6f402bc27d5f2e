"""Questions for proposals to a chat model, which may see the source too."""

from collections.abc import Hashable

from overpaint.operators.measures.proposals import INVENT, PROMPT, REWRITE
from overpaint.operators.models import chat_model
from overpaint.operators.models.chat_model import Question
from overpaint.operators.models.proposer import Wish, WritesInstructions
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.edit_types import EDIT_TYPES
from overpaint.pipeline.images import decode
from pydantic import Field


class AsksForProposals(WritesInstructions):
    """Fields of a question."""

    sees_source: bool = True
    """Whether the model is shown the source; false for a model of text alone."""
    image_px: int = Field(default=512, ge=16, le=4096)
    """Sources whose longer side is longer are scaled down to it."""
    style: str = "Write a short imperative sentence."
    """Form of instructions that the editing model likes, in words that the model is told."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source, where the model sees it."""
        return (c.SOURCE_IMAGE,) if self.sees_source else ()

    @property
    def optional(self) -> tuple[Column, ...]:
        """The source's size, where the model sees it."""
        return (c.WIDTH_PX, c.HEIGHT_PX) if self.sees_source else ()

    def bucket(self, row: Row) -> Hashable:
        """Returns the size of the picture: equal ones have equally many tokens."""
        width, height = row.get(c.WIDTH_PX.name), row.get(c.HEIGHT_PX.name)
        if not (self.sees_source and width and height):
            return None
        return chat_model.fitted(width, height, self.image_px)

    def question(self, wish: Wish) -> Question:
        """Returns the question for a wish, with the source where it is seen."""
        pictures = (
            (chat_model.fit(decode(wish.row["source_image"]).image(), self.image_px),)
            if self.sees_source
            else ()
        )
        task = INVENT.replace("{wished_type}", wish.edit_types[0])
        text = PROMPT.replace("{edit_types}", ", ".join(EDIT_TYPES))
        text = text.replace("{num_variants}", str(self.num_variants)).replace("{style}", self.style)
        text = text.replace("{task}", REWRITE if wish.instruction else task)
        # A row's own words come last: nothing in their text is replaced.
        before, after = text.split("{caption}")
        after = after.replace("{instruction}", wish.instruction or "")
        return Question(pictures, f"{before}{wish.caption or 'not given'}{after}")
