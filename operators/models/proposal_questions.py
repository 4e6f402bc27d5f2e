"""Questions for proposals to a chat model, which may see the source too."""

from overpaint.operators.measures.proposals import INVENT, PROMPT, REWRITE
from overpaint.operators.models.chat_model import Question
from overpaint.operators.models.proposer import Wish, WritesInstructions
from overpaint.operators.models.sees_source import SeesSource
from overpaint.pipeline.edit_types import EDIT_TYPES


class AsksForProposals(SeesSource, WritesInstructions):
    """Fields of a question."""

    style: str = "Write a short imperative sentence."
    """Form of instructions that the editing model likes, in words that the model is told."""

    def question(self, wish: Wish) -> Question:
        """Returns the question for a wish, with the source where it is seen."""
        task = INVENT.replace("{wished_type}", wish.edit_types[0])
        text = PROMPT.replace("{edit_types}", ", ".join(EDIT_TYPES))
        text = text.replace("{num_variants}", str(self.num_variants)).replace("{style}", self.style)
        text = text.replace("{task}", REWRITE if wish.instruction else task)
        # A row's own words come last: nothing in their text is replaced.
        before, after = text.split("{caption}")
        after = after.replace("{instruction}", wish.instruction or "")
        return Question(self.pictures(wish.row), f"{before}{wish.caption or 'not given'}{after}")
