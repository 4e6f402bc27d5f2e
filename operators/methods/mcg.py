"""MCG (arXiv 2206.00941): manifold constrained gradients, and the known part set after each step.

DPS (arXiv 2209.14687) came after it: the same gradient, without the projection.
"""

from overpaint.operators.methods.dps import DPS
from pydantic import Field


class MCG(DPS):
    """Fills the mask by manifold constrained gradients, and projects onto what is known."""

    papers = ("2206.00941",)

    scale: float = Field(default=1.0, ge=0, le=1000)
    """Step size of the descent along the gradient of the norm; 0 samples without it."""
    project: bool = True
    """Whether the known part is set to the noised source after each step."""
