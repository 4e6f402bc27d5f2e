"""Form `expected`: the expected value over the probabilities of the digits that a model could say.

A model that says 4 and nearly said 2 is less sure than one that could say nothing else: the mean of
the digits by their probabilities tells it, and ranks edits that one digit cannot tell apart. It
takes a model here, whose logits are read, or an endpoint that gives `logprobs`. Papercut's judge
names EditEval's four factors, and the mean of each is taken. The words are Overpaint's own.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from overpaint.operators.measures.told import Expectation, TokenChoice, Told, expectation
from overpaint.operators.measures.verdicts import WEIGHTS
from overpaint.operators.models.judge_form import FormQuestion, JudgeForm
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column

MOST = 5
PROMPT = """\
The first picture is a source, the second is what an editor made of it. The editor was asked:
"{instruction}"
How good is the edit? 0: the request is not carried out, or the wrong thing was edited. 5: exactly
the request is carried out, all else is as it was, and the picture is clean.
Answer with one digit from 0 to 5 and nothing else."""

_SCALE = 10 / MOST
_DIGITS = tuple(str(digit) for digit in range(MOST + 1))


class Expected(JudgeForm):
    """Expected value over the digits' probabilities."""

    questions: ClassVar[tuple[FormQuestion, ...]] = (FormQuestion(PROMPT),)
    columns: ClassVar[tuple[Column, ...]] = (
        c.score("lmm_score", "the expected value of the judge's answer, brought to 0 to 10"),
        c.score("lmm_std", "the standard deviation of the judge's answer, on the same scale"),
        c.score("lmm_mass", "the probability that the answer is a number at all, 0.5 to 1"),
    )
    answer_form: ClassVar[str] = "one digit from 0 to 5"
    request: ClassVar[Mapping[str, Any]] = {"logprobs": True, "top_logprobs": 20}
    reads_tokens: ClassVar[bool] = True
    papercut_answers: ClassVar[bool] = True
    papers: ClassVar[tuple[str, ...]] = ("2510.16888",)

    def read(self, told: Told) -> Expectation | None:
        """Reads the distribution of the one digit, or of papercut's four factors."""
        if factors := _factors(told.tokens):
            return factors
        digits = [token for token in told.tokens if token.text.strip() in _DIGITS]
        numbers = re.findall(r"\d+(?:\.\d+)?", re.sub(r"/\s*5\b", "", told.text))
        if not digits or numbers != [digits[0].text.strip()]:
            return None
        found = expectation(digits[0], range(MOST + 1))
        if found is None:
            return None
        return Expectation(round(_SCALE * found.mean, 6), round(_SCALE * found.std, 6), found.mass)

    def values(self, readings: Sequence[Expectation]) -> dict[str, Any]:
        """Returns mean, deviation and probability."""
        (found,) = readings
        return {"lmm_score": found.mean, "lmm_std": found.std, "lmm_mass": found.mass}


def _factors(tokens: Sequence[TokenChoice]) -> Expectation | None:
    """Returns the distribution of EditEval's weighted sum; None where a factor is not named."""
    found: dict[str, Expectation] = {}
    name = None
    for token in tokens:
        text = token.text.strip().lower()
        if text.rstrip(":") in WEIGHTS:
            name = text.rstrip(":")
        elif name is not None and text.isdecimal():
            if stated := expectation(token, range(11)):
                found[name] = stated
            name = None
        elif text != ":":
            name = None
    if found.keys() != WEIGHTS.keys():
        return None
    mean = sum(weight * found[name].mean for name, weight in WEIGHTS.items())
    std = math.sqrt(sum((weight * found[name].std) ** 2 for name, weight in WEIGHTS.items()))
    return Expectation(round(mean, 6), round(std, 6), min(each.mass for each in found.values()))
