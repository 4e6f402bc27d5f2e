"""Form `pair`: the better one of two edits of a source, asked in both orders.

The other edit is that of another stage of the same row, such as a draft beside its refinement:

    [[stage]]
    operator = "judge"
    form = "pair"
    reads = { other_image = "draft_image" }

Models prefer a place as much as a picture, so that each pair is asked twice, A and B exchanged; two
answers that contradict each other are a tie, and `lmm_orders_agree` says so. Edits of another
row cannot be seen here: candidates of one source are chosen by their scores. The words are
Overpaint's own.
"""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import pyarrow as pa
from overpaint.operators.measures.told import Told
from overpaint.operators.measures.verdicts import json_objects
from overpaint.operators.models.judge_form import FormQuestion, JudgeForm
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column

OTHER_IMAGE = Column("other_image", pa.binary(), "another edit of the source, encoded", "stream")

PROMPT = """\
The first picture is a source. The second, A, and the third, B, are two edits of it. Both editors
were asked: "{instruction}"
Compare the edits: is the request carried out, neither less nor something else? Is all else as it
was in the source? Is the picture clean and natural? The first question counts most. The order of A
and B means nothing. Say in a sentence or two what differs. Then end with one line of JSON of this
form: {"better": "A"} or {"better": "B"}, or {"better": "tie"} where neither is better."""

_ANSWERS = {"a": "A", "b": "B", "tie": "tie"}
_ALONE = re.compile(r"[\W_]*(?:better|winner|answer)?[\W_]*\b(A|B|tie)[\W_]*", re.IGNORECASE)
_SCORES = {"edited": 10.0, "tie": 5.0, "other": 0.0}


class Pair(JudgeForm):
    """A, B or a tie between the edit and another edit of the row, in both orders."""

    questions: ClassVar[tuple[FormQuestion, ...]] = (
        FormQuestion(PROMPT, (c.SOURCE_IMAGE, c.EDITED_IMAGE, OTHER_IMAGE)),
        FormQuestion(PROMPT, (c.SOURCE_IMAGE, OTHER_IMAGE, c.EDITED_IMAGE)),
    )
    columns: ClassVar[tuple[Column, ...]] = (
        Column("lmm_preference", pa.string(), "the better edit: edited, other or tie"),
        Column("lmm_orders_agree", pa.bool_(), "whether both orders have the same answer"),
        Column(
            "lmm_edited_first", pa.string(), "the answer with the edit as A: edited, other, tie"
        ),
        Column("lmm_other_first", pa.string(), "the answer with the edit as B: edited, other, tie"),
        c.score("lmm_score", "10 where the edit is preferred, 5 for a tie, 0 for the other"),
    )
    answer_form: ClassVar[str] = 'one line of JSON: {"better": "A"}, {"better": "B"} or "tie"'
    averages: ClassVar[bool] = False
    papers: ClassVar[tuple[str, ...]] = ("2602.06013",)

    def read(self, told: Told) -> str | None:
        """Reads A, B or tie."""
        for values in json_objects(told.text):
            if "better" in values:
                return _ANSWERS.get(str(values["better"]).strip().lower())
        alone = _ALONE.fullmatch(told.text)
        return _ANSWERS[alone[1].lower()] if alone else None

    def values(self, readings: Sequence[str]) -> dict[str, Any]:
        """Returns the answer of each order, and the preference where they agree."""
        first, second = readings
        edited_first = {"A": "edited", "B": "other", "tie": "tie"}[first]
        other_first = {"A": "other", "B": "edited", "tie": "tie"}[second]
        agree = edited_first == other_first
        preference = edited_first if agree else "tie"
        return {
            "lmm_preference": preference,
            "lmm_orders_agree": agree,
            "lmm_edited_first": edited_first,
            "lmm_other_first": other_first,
            "lmm_score": _SCORES[preference],
        }
