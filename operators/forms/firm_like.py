"""Form `firm_like`: execution and consistency apart, 1 to 5, as FIRM-Edit asks.

Each has a question of its own, so that neither colours the other; differences are listed first.
The words are Overpaint's own.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from overpaint.operators.measures.stated_scores import stated_reason, stated_scores
from overpaint.operators.measures.told import Told
from overpaint.operators.models.judge_form import REASON, FormQuestion, JudgeForm
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column

LEAST, MOST = 1, 5

_BEGIN = """\
The first picture is a source, the second is what an editor made of it. The editor was asked:
"{instruction}"
"""
_EXECUTION = """\
First list every difference between the two pictures. Then judge one thing alone: was the request
carried out? Changes that nobody asked for do not count here, nor does the look of the picture.
5 - all of it, as asked
4 - all that matters; a small detail is missing
3 - the main point, but something that was asked for is missing or wrong
2 - hardly any of it
1 - nothing of it, or the opposite
"""
_CONSISTENCY = """\
First list every difference between the two pictures. Then judge one thing alone: did anything
change that was not asked for? It does not matter here if the request was carried out. What follows
from the request by nature does not count: what was hidden behind a removed thing, a shadow that
goes with it, a little blur or noise.
5 - nothing else changed
4 - one other thing changed clearly, or two a little
3 - two or three other things changed clearly, or four a little
2 - more than that
1 - it is another picture
"""
_END = """\
End with one line of JSON of this form: {"reasoning": "the differences in a few words", \
"score": NUMBER}"""


class Score(NamedTuple):
    """Score of one reply, 1 to 5, with its reason."""

    value: float
    reason: str | None


class FirmLike(JudgeForm):
    """Execution of the request, and consistency with the source, in two questions."""

    questions: ClassVar[tuple[FormQuestion, ...]] = (
        FormQuestion(_BEGIN + _EXECUTION + _END),
        FormQuestion(_BEGIN + _CONSISTENCY + _END),
    )
    columns: ClassVar[tuple[Column, ...]] = (
        c.score("lmm_execution", "the request was carried out, 1 to 5, by the judge"),
        c.score("lmm_consistency", "nothing else was changed, 1 to 5, by the judge"),
        c.score(
            "lmm_score",
            "10 e (1 + k) / 2 for execution e and consistency k, each brought to 0 to 1: what was "
            "not done is worth nothing, however much was kept",
        ),
        REASON,
    )
    answer_form: ClassVar[str] = (
        'one line of JSON: {"reasoning": "...", "score": NUMBER}, the number from 1 to 5'
    )
    papers: ClassVar[tuple[str, ...]] = ("2603.12247",)

    def read(self, told: Told) -> Score | None:
        """Reads one score."""
        scores = stated_scores(told.text, 1, LEAST, MOST)
        return None if scores is None else Score(scores[0], stated_reason(told.text))

    def values(self, readings: Sequence[Score]) -> dict[str, Any]:
        """Returns both scores, and execution that consistency weakens."""
        execution, consistency = readings
        done, kept = ((each.value - LEAST) / (MOST - LEAST) for each in readings)
        return {
            "lmm_execution": execution.value,
            "lmm_consistency": consistency.value,
            "lmm_score": round(10 * done * (1 + kept) / 2, 6),
            "lmm_reason": _joined(execution.reason, consistency.reason),
        }


def _joined(*reasons: str | None) -> str | None:
    return " / ".join(reason for reason in reasons if reason) or None
