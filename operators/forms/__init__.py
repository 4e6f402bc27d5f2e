"""The forms of `judge`: one module each, found by its name.

A form whose words are those of its authors has their name; one that asks the same in words of
Overpaint's own ends in `_like`.
"""

from overpaint.operators.models.judge_form import JudgeForm
from overpaint.pipeline.catalogue import Catalogue

FORMS: Catalogue[JudgeForm] = Catalogue(__name__, JudgeForm, "form")
