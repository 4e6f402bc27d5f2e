"""Prompt Tuning Inversion (arXiv 2305.04441): a source prompt for each step that guidance needs.

Classifier-free guidance leads away from an inverted trajectory. The embedding of the source prompt
is fitted in each step, so that guidance from the empty prompt to it stays on the trajectory.
"""

from overpaint.operators.controls.prompt_fit import PromptFit
from overpaint.pipeline import columns as c


class PromptTuningFit(PromptFit):
    """Fits the source prompt, so that guidance by it gives the source."""

    papers = ("2305.04441",)
    family = "F03"
    role = "text"
    outputs = (c.FITTED_TEXT,)
