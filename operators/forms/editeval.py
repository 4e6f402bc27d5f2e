"""Form `editeval`: EditEval's four factors, 0 to 10, of one edit by itself.

The published protocol compares all edits of an image in one chat; a row sees its own edit alone, so
the figures are a variant, to be calibrated.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from overpaint.operators.measures.told import Told
from overpaint.operators.measures.verdicts import PROMPT, Verdict, read_verdict
from overpaint.operators.models.judge_form import FormQuestion, JudgeForm
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column

LMM_ACCURACY = c.score("lmm_accuracy", "the edit does what was asked, 0 to 10, by the judge")
LMM_PRESERVATION = c.score("lmm_preservation", "the rest is as it was, 0 to 10, by the judge")
LMM_QUALITY = c.score("lmm_quality", "the edited image is clean, 0 to 10, by the judge")
LMM_REALISM = c.score("lmm_realism", "the edited image obeys natural laws, 0 to 10, by the judge")
LMM_SCORE = c.score("lmm_score", "0.4 accuracy + 0.3 preservation + 0.2 quality + 0.1 realism")

_FACTORS = (LMM_ACCURACY, LMM_PRESERVATION, LMM_QUALITY, LMM_REALISM)


class EditEval(JudgeForm):
    """EditEval's accuracy, preservation, quality and realism."""

    questions: ClassVar[tuple[FormQuestion, ...]] = (FormQuestion(PROMPT),)
    columns: ClassVar[tuple[Column, ...]] = (*_FACTORS, LMM_SCORE)
    answer_form: ClassVar[str] = (
        'one line of JSON: {"accuracy": NUMBER, "preservation": NUMBER, "quality": NUMBER, '
        '"realism": NUMBER}, each from 0 to 10'
    )
    papercut_answers: ClassVar[bool] = True
    papers: ClassVar[tuple[str, ...]] = ("2402.17525",)

    def read(self, told: Told) -> Verdict | None:
        """Reads the four factors."""
        return read_verdict(told.text)

    def values(self, readings: Sequence[Verdict]) -> dict[str, Any]:
        """Returns the factors and their weighted sum."""
        (verdict,) = readings
        factors = zip(_FACTORS, verdict, strict=True)
        return {**{column.name: value for column, value in factors}, "lmm_score": verdict.score}
