"""Form `points`: a list of two scores from 0 to 25, as UnifiedReward-Edit and EditScore ask.

The words are VIEScore's (MIT licence, see NOTICE), with 25 for 10 and the reasoning before the
scores. The columns are on the scale of all forms, 0 to 10.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from overpaint.operators.forms.viescore import CONTEXT, EDIT_RULES, EDIT_SCORES, Scores
from overpaint.operators.measures.stated_scores import stated_reason, stated_scores
from overpaint.operators.measures.told import Told
from overpaint.operators.models.judge_form import REASON, FormQuestion, JudgeForm
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column

MOST = 25
_SCALE = MOST / 10
_SCORE_FIRST = '"score" : [...],\n"reasoning" : "..."'
_REASON_FIRST = '"reasoning" : "...",\n"score" : [...]'


class Points(JudgeForm):
    """Two scores from 0 to 25 in a list: the edit's success, and that nothing else was edited."""

    questions: ClassVar[tuple[FormQuestion, ...]] = (
        FormQuestion(
            "\n".join(
                (
                    CONTEXT.replace(_SCORE_FIRST, _REASON_FIRST),
                    EDIT_RULES,
                    EDIT_SCORES.replace("10", str(MOST)),
                )
            )
        ),
    )
    columns: ClassVar[tuple[Column, ...]] = (
        c.score("lmm_follow", "the edit does what was asked: the judge's 0 to 25, over 2.5"),
        c.score("lmm_preserve", "nothing else was edited: the judge's 0 to 25, over 2.5"),
        c.score("lmm_score", "the lesser of lmm_follow and lmm_preserve, 0 to 10"),
        REASON,
    )
    answer_form: ClassVar[str] = (
        'one JSON object: {"reasoning": "...", "score": [NUMBER, NUMBER]}, each number from 0 to '
        f"{MOST}"
    )

    def read(self, told: Told) -> Scores | None:
        """Reads two scores, and brings them to 0 to 10."""
        scores = stated_scores(told.text, 2, 0, MOST)
        if scores is None:
            return None
        first, second = (round(score / _SCALE, 6) for score in scores)
        return Scores(first, second, stated_reason(told.text))

    def values(self, readings: Sequence[Scores]) -> dict[str, Any]:
        """Returns both scores, and the lesser."""
        (scores,) = readings
        return {
            "lmm_follow": scores.first,
            "lmm_preserve": scores.second,
            "lmm_score": min(scores.first, scores.second),
            "lmm_reason": scores.reason,
        }
