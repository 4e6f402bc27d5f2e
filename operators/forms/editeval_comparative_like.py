"""Form `editeval_comparative_like`: all edits of one source, scored beside each other by EditEval.

EditEval's published scores are comparative: a judge sees the edits of a picture in one chat and
scores them together, without equal scores where they differ. Here the edits are the row's
`references`, so that a row is one source with what several editors made of it:

    {"source_uri": "cat.jpg", "instruction": "make it a dog", "references": ["a.png", "b.png"]}

    [[stage]]
    operator = "judge"
    form = "editeval_comparative_like"

All is asked at once, where the published template is a chat of several turns; the words are
Overpaint's own. Scores depend on what stands beside an edit, and somewhat on its place: compare
those of one row among themselves.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import pyarrow as pa
from overpaint.operators.measures.told import Told
from overpaint.operators.measures.verdicts import Verdict, json_objects, verdict_in
from overpaint.operators.models.judge_form import REFERENCE_IMAGES, FormQuestion, JudgeForm
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column

PROMPT = """\
The first picture is a source. The {count} pictures after it, numbered from 1 in their order, are
what {count} editors made of it. All were asked: "{instruction}"
First say what has to change and what has to stay. Then look at each edit in turn, and say in a
sentence what was done well and badly, without a score. Only then score all of them beside each
other by four factors, each with a number from 1 (worst) to 10 (best):
accuracy - the edit does what was asked, neither less nor something else
preservation - everything that should not change is as it was in the source
quality - the edited picture is clean: no artefacts, blur, seams or noise
realism - light, perspective, shapes and proportions obey natural laws
The order of the edits means nothing. Edits that differ should not have equal scores. End with one
line of JSON that has every edit by its number:
{"1": {"accuracy": NUMBER, "preservation": NUMBER, "quality": NUMBER, "realism": NUMBER}, "2": ...}
"""

_LISTS = {
    "accuracy": "lmm_accuracies",
    "preservation": "lmm_preservations",
    "quality": "lmm_qualities",
    "realism": "lmm_realisms",
}


def _list(name: str, doc: str) -> Column:
    return Column(name, pa.list_(pa.float64()), f"{doc} of each candidate, in their order")


class EditEvalComparative(JudgeForm):
    """EditEval's four factors of several edits of one source, scored together."""

    questions: ClassVar[tuple[FormQuestion, ...]] = (
        FormQuestion(PROMPT, (c.SOURCE_IMAGE, REFERENCE_IMAGES)),
    )
    columns: ClassVar[tuple[Column, ...]] = (
        _list("lmm_scores", "LMM Score, 1 to 10,"),
        *(_list(column, f"{factor}, 1 to 10,") for factor, column in _LISTS.items()),
        Column("lmm_best", pa.int32(), "place of the candidate with the most, from 0"),
        c.score("lmm_score", "the most of lmm_scores"),
    )
    answer_form: ClassVar[str] = (
        'one line of JSON that has every edit by its number, each with "accuracy", "preservation", '
        '"quality" and "realism" from 1 to 10: {"1": {"accuracy": NUMBER, ...}, "2": ...}'
    )
    averages: ClassVar[bool] = False
    papers: ClassVar[tuple[str, ...]] = ("2402.17525",)

    def read(self, told: Told) -> tuple[Verdict, ...] | None:
        """Reads a verdict on every candidate: all pictures but the first are candidates."""
        numbers = [str(number) for number in range(1, told.num_pictures)]
        for values in json_objects(told.text, most=4 * told.num_pictures):
            if set(values) != set(numbers):
                continue
            verdicts = [verdict_in(values[n]) for n in numbers if isinstance(values[n], dict)]
            read = tuple(one for one in verdicts if one is not None and min(one) >= 1)
            return read if len(read) == len(numbers) else None
        return None

    def values(self, readings: Sequence[tuple[Verdict, ...]]) -> dict[str, Any]:
        """Returns the scores of the candidates, and which of them has most."""
        (verdicts,) = readings
        scores = [verdict.score for verdict in verdicts]
        factors = zip(_LISTS.values(), zip(*verdicts, strict=True), strict=True)
        return {
            "lmm_scores": scores,
            **{column: list(figures) for column, figures in factors},
            "lmm_best": scores.index(max(scores)),
            "lmm_score": max(scores),
        }

    def pictures(self) -> tuple[Column, ...]:
        """Returns the source and its edits: the row has no edit of its own."""
        return (c.SOURCE_IMAGE, REFERENCE_IMAGES)
