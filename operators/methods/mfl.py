"""Mask-free local editing (arXiv 2212.07603): a region filled several times, of which CLIP chooses.

The paper finds the region by the words for it; here a finder does, or the row has a mask.
"""

from overpaint.operators.controls.best_of import BestOf
from overpaint.operators.methods.inpaint import Inpaint


class MFL(BestOf, Inpaint):
    """Fills the mask several times, and keeps the fill that says most of the target prompt.

    There is no official code, and the number of fills is not the paper's.
    """

    papers = ("2212.07603", "2112.10752")
    family = "F07"
    edit_types = ("replace", "remove")
