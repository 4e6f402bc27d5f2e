"""Null-text inversion (arXiv 2211.09794): an empty prompt for each step that guidance needs.

Classifier-free guidance leads away from an inverted trajectory. The embedding of the empty prompt
is fitted in each step, so that guidance by the source prompt stays on it.
"""

from overpaint.operators.controls.prompt_fit import PromptFit
from overpaint.pipeline import columns as c


class NullTextFit(PromptFit):
    """Fits the empty prompt, so that guidance by the source prompt gives the source."""

    papers = ("2211.09794",)
    family = "F03"
    role = "negative"
    outputs = (c.FITTED_NEGATIVE,)
