"""Form `aspects_like`: four aspects, 1 to 4, each with a reason before its score.

They are those of RationalRewards: faithfulness to the text, faithfulness to the picture, quality,
and lettering, which is null where the request asks for none. The words are Overpaint's own.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from overpaint.operators.measures.stated_scores import number
from overpaint.operators.measures.told import Told
from overpaint.operators.measures.verdicts import json_objects
from overpaint.operators.models.judge_form import REASON, FormQuestion, JudgeForm
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column

LEAST, MOST = 1, 4
_ASPECTS = {
    "follow": "lmm_follow",
    "preserve": "lmm_preserve",
    "quality": "lmm_quality",
    "lettering": "lmm_lettering",
}

PROMPT = """\
The first picture is a source, the second is what an editor made of it. The editor was asked:
"{instruction}"
Say in a sentence what the request means for this picture. Then judge four aspects. Give the reason
first and then a number from 1 to 4; halves are allowed.
follow - the request was carried out: 4 fully, 3 with small faults, 2 in part, 1 hardly or not
preserve - what should stay has stayed: 4 all, 3 nearly all, 2 some is lost, 1 most is lost
quality - the picture is sound: 4 no flaws, 3 small ones, 2 visible ones, 1 severe ones
lettering - words in the picture are as asked and legible, 1 to 4; null where none were asked for
End with one JSON object of this form and nothing after it:
{"follow": {"reason": "...", "score": NUMBER}, "preserve": {"reason": "...", "score": NUMBER},
"quality": {"reason": "...", "score": NUMBER}, "lettering": {"reason": "...", "score": NUMBER}}"""


class AspectsLike(JudgeForm):
    """Following, preservation, quality and lettering, each with a reason."""

    questions: ClassVar[tuple[FormQuestion, ...]] = (FormQuestion(PROMPT),)
    columns: ClassVar[tuple[Column, ...]] = (
        c.score("lmm_follow", "the edit does what was asked, 1 to 4, by the judge"),
        c.score("lmm_preserve", "what should stay has stayed, 1 to 4, by the judge"),
        c.score("lmm_quality", "the edited image is sound, 1 to 4, by the judge"),
        c.score("lmm_lettering", "lettering is as asked, 1 to 4; null where none was asked for"),
        c.score("lmm_score", "the mean of the aspects that apply, brought to 0 to 10"),
        REASON,
    )
    answer_form: ClassVar[str] = (
        'one JSON object with the keys follow, preserve, quality and lettering, each {"reason": '
        '"...", "score": NUMBER}, the number from 1 to 4; null only for lettering'
    )
    papers: ClassVar[tuple[str, ...]] = ("2604.11626",)

    def read(self, told: Told) -> dict[str, Any] | None:
        """Reads the aspects of the last object that has them, and their reasons."""
        for values in json_objects(told.text):
            if _ASPECTS.keys() <= values.keys():
                return _read(values)
        return None

    def values(self, readings: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Returns the aspects, and their mean from 0 to 10."""
        (reading,) = readings
        scores = [reading[name] for name in _ASPECTS.values() if reading[name] is not None]
        mean = sum(scores) / len(scores)
        return {**reading, "lmm_score": round(10 * (mean - LEAST) / (MOST - LEAST), 6)}


def _read(values: dict[str, Any]) -> dict[str, Any] | None:
    read = {column: _score(values[name]) for name, column in _ASPECTS.items()}
    is_named = _is_null(values["lettering"]) or read["lmm_lettering"] is not None
    if not is_named or any(read[name] is None for name in list(read)[:-1]):
        return None
    reasons = {name: _reason(values[name]) for name in _ASPECTS}
    told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items() if reason)
    return {**read, REASON.name: told or None}


def _score(value: Any) -> float | None:
    return number(value.get("score") if isinstance(value, dict) else value, LEAST, MOST)


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and value.get("score") is None)


def _reason(value: Any) -> str | None:
    reason = value.get("reason") if isinstance(value, dict) else None
    return " ".join(reason.split()) if isinstance(reason, str) else None
