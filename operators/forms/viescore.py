"""Form `viescore`: VIEScore's two questions, each with two scores from 0 to 10.

Semantic consistency sees both pictures, perceptual quality the edited one alone; each is the lesser
of its scores, and the whole their geometric mean. The words are the authors' (MIT licence, see
NOTICE). The published code puts random numbers where a reply cannot be read; here they are null.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from overpaint.operators.measures.stated_scores import stated_reason, stated_scores
from overpaint.operators.measures.told import Told
from overpaint.operators.models.judge_form import REASON, FormQuestion, JudgeForm
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column

CONTEXT = """\
You are a professional digital artist. You will have to evaluate the effectiveness of the \
AI-generated image(s) based on given rules.
All the input images are AI-generated. All human in the images are AI-generated too. so you need \
not worry about the privacy confidentials.

You will have to give your output in this way (Keep your reasoning concise and short.):
{
"score" : [...],
"reasoning" : "..."
}"""
EDIT_RULES = """\
RULES:

Two images will be provided: The first being the original AI-generated image and the second being \
an edited version of the first.
The objective is to evaluate how successfully the editing instruction has been executed in the \
second image.

Note that sometimes the two images might look identical due to the failure of image edit.
"""
EDIT_SCORES = """\

From scale 0 to 10: 
A score from 0 to 10 will be given based on the success of the editing. (0 indicates that the \
scene in the edited image does not follow the editing instruction at all. 10 indicates that the \
scene in the edited image follow the editing instruction text perfectly.)
A second score from 0 to 10 will rate the degree of overediting in the second image. (0 indicates \
that the scene in the edited image is completely different from the original. 10 indicates that \
the edited image can be recognized as a minimal edited yet effective version of original.)
Put the score in a list such that output score = [score1, score2], where 'score1' evaluates the \
editing success and 'score2' evaluates the degree of overediting.

Editing instruction: {instruction}
"""  # noqa: W291  the authors' own words
QUALITY_RULES = """\
RULES:

The image is an AI-generated image.
The objective is to evaluate how successfully the image has been generated.

From scale 0 to 10: 
A score from 0 to 10 will be given based on image naturalness. 
(
    0 indicates that the scene in the image does not look natural at all or give a unnatural \
feeling such as wrong sense of distance, or wrong shadow, or wrong lighting. 
    10 indicates that the image looks natural.
)
A second score from 0 to 10 will rate the image artifacts. 
(
    0 indicates that the image contains a large portion of distortion, or watermark, or scratches, \
or blurred faces, or unusual body parts, or subjects not harmonized. 
    10 indicates the image has no artifacts.
)
Put the score in a list such that output score = [naturalness, artifacts]
"""  # noqa: W291  the authors' own words


class Scores(NamedTuple):
    """Two scores of one reply, 0 to 10, with the reason that it gives."""

    first: float
    second: float
    reason: str | None


class VIEScore(JudgeForm):
    """VIEScore: consistency with the instruction and the source, and quality of the picture."""

    questions: ClassVar[tuple[FormQuestion, ...]] = (
        FormQuestion("\n".join((CONTEXT, EDIT_RULES, EDIT_SCORES))),
        FormQuestion("\n".join((CONTEXT, QUALITY_RULES)), (c.EDITED_IMAGE,)),
    )
    columns: ClassVar[tuple[Column, ...]] = (
        c.score("lmm_follow", "the edit does what was asked, 0 to 10, by the judge"),
        c.score("lmm_preserve", "nothing else was edited, 0 to 10, by the judge"),
        c.score("lmm_natural", "the edited image looks natural, 0 to 10, by the judge"),
        c.score("lmm_artifact", "the edited image has no artifacts, 0 to 10, by the judge"),
        c.score("lmm_sc", "semantic consistency: the lesser of lmm_follow and lmm_preserve"),
        c.score("lmm_pq", "perceptual quality: the lesser of lmm_natural and lmm_artifact"),
        c.score("lmm_overall", "the geometric mean of lmm_sc and lmm_pq, 0 to 10"),
        c.score("lmm_score", "lmm_overall, under the name that all forms have"),
        REASON,
    )
    answer_form: ClassVar[str] = (
        'one JSON object: {"score": [NUMBER, NUMBER], "reasoning": "..."}, each number from 0 to 10'
    )
    papers: ClassVar[tuple[str, ...]] = ("2312.14867",)

    def read(self, told: Told) -> Scores | None:
        """Reads two scores."""
        scores = stated_scores(told.text, 2, 0, 10)
        if scores is None:
            return None
        first, second = scores
        return Scores(first, second, stated_reason(told.text))

    def values(self, readings: Sequence[Scores]) -> dict[str, Any]:
        """Returns the four scores, the lesser of each two, and their geometric mean."""
        consistency, quality = readings
        sc = min(consistency.first, consistency.second)
        pq = min(quality.first, quality.second)
        overall = round(math.sqrt(sc * pq), 6)
        return {
            "lmm_follow": consistency.first,
            "lmm_preserve": consistency.second,
            "lmm_natural": quality.first,
            "lmm_artifact": quality.second,
            "lmm_sc": sc,
            "lmm_pq": pq,
            "lmm_overall": overall,
            "lmm_score": overall,
            "lmm_reason": consistency.reason or quality.reason,
        }
