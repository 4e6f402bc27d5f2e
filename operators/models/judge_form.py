"""A judge's form: what a model is asked of an edit, and how its replies become columns.

Each module of `operators/forms` holds one. A form has no settings and no model: prompts, pictures,
axes with their ranges, and a strict reader. `judge` asks its questions, in order, of any backend.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa
from overpaint.operators.measures.told import Told
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row, first_text
from overpaint.pipeline.conditions import REFERENCES
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.identity import digest

INSTRUCTION = "{instruction}"
"""Part of a question that stands for the row's instruction."""
COUNT = "{count}"
"""Part of a question that stands for the number of pictures after the first."""
ALONE_PROMPT = INSTRUCTION
"""Question of papercut's judge, which was trained on the instruction alone."""

REFERENCE_IMAGES = REFERENCES.column
"""Pictures of a form that shows several edits of one source."""
REASON = Column("lmm_reason", pa.string(), "why, in the judge's words")
"""Column of forms that ask for a reason."""


class FormQuestion(NamedTuple):
    """Question about an edit.

    Attributes:
        text: words, with `{instruction}` in them where the question needs it, and `{count}`.
        pictures: columns of the pictures that are shown, in order, or of lists of them.
    """

    text: str
    pictures: tuple[Column, ...] = (c.SOURCE_IMAGE, c.EDITED_IMAGE)


class Heard(NamedTuple):
    """End of one question: a status, what was said, and its reading where that is `ok`."""

    status: str
    text: str | None
    reading: Any = None


class JudgeForm(ABC):
    """Form of judging: questions, a reader of their replies, and columns.

    Example:
        class YesNo(JudgeForm):
            questions = (FormQuestion("Was this done: {instruction}? Answer yes or no."),)
            columns = (c.score("lmm_score", "10 for yes, 0 for no"),)
            answer_form = "yes or no"

            def read(self, told):
                return {"yes": 10.0, "no": 0.0}.get(told.text.strip(" .").lower())

            def values(self, readings):
                return {"lmm_score": readings[0]}
    """

    questions: ClassVar[tuple[FormQuestion, ...]]
    """Questions, each asked in a chat of its own."""
    columns: ClassVar[tuple[Column, ...]]
    """Columns of the readings; one of them is `lmm_score`, 0 to 10, where more is better."""
    answer_form: ClassVar[str]
    """Words for an answer that can be read, for a model that is asked once more."""
    request: ClassVar[Mapping[str, Any]] = {}
    """What an endpoint is asked for beside the answer."""
    reads_tokens: ClassVar[bool] = False
    """True where the reader needs the probabilities of a reply's tokens."""
    papercut_answers: ClassVar[bool] = False
    """True where papercut's judge answers in this form."""
    averages: ClassVar[bool] = True
    """True where means over several passes tell something."""
    version: ClassVar[int] = 1
    """Raised when equal replies are read otherwise than before."""
    papers: ClassVar[tuple[str, ...]] = ()
    """arXiv numbers of the papers that the form is of."""

    @abstractmethod
    def read(self, told: Told, /) -> Any:
        """Reads the reply to one question; returns None where it cannot be read."""

    @abstractmethod
    def values(self, readings: Sequence[Any], /) -> dict[str, Any]:
        """Returns the values of `columns`.

        Args:
            readings: what `read` returned for each question, in order; none of them is None.
        """

    def pictures(self) -> tuple[Column, ...]:
        """Returns the columns of all pictures that are shown, each once."""
        shown = (column for question in self.questions for column in question.pictures)
        return tuple(dict.fromkeys((c.SOURCE_IMAGE, c.EDITED_IMAGE, *shown)))

    def identity(self) -> str:
        """Returns a word that changes with the questions and the reader."""
        asked = [
            [question.text, *(column.name for column in question.pictures)]
            for question in self.questions
        ]
        return digest([asked, dict(self.request), self.version])


def wanted_of(row: Row) -> str:
    """Returns the request of a row in words.

    Raises:
        RowError: `judge_instruction_missing`.
    """
    wanted = first_text(row, c.INSTRUCTION)
    if wanted is None and (prompt := first_text(row, c.TARGET_PROMPT)):
        wanted = f"make it a picture of: {prompt}"
    if wanted is None:
        raise RowError(
            "judge_instruction_missing", "the row has neither an instruction nor target_prompt"
        )
    return wanted
