"""The Stable Artist (arXiv 2212.06013): concepts lead where they and the prompt disagree.

It is the first form of SEGA, whose inverted source it shares.
"""

from overpaint.operators.controls.semantic_guidance import StableArtistGuidance
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.methods.sega import Sega
from pydantic import Field


class StableArtist(Sega):
    """Semantic guidance whose scale at each place is the distance of prompt and concept.

    The paper writes the greater of 1 and that distance; the lesser is meant, as in its code.
    """

    papers = ("2212.06013", "2010.02502", "2206.02779")

    guidance_scale: float = Field(default=7.0, ge=0, le=100)
    """Scale of the guidance by the source prompt and by the concepts; 7 in the official examples. 1
    keeps more of a source that was inverted unguided."""
    edit_guidance_scale: float = Field(default=2000.0, ge=0, le=10000)
    """Factor of the distance of prompt and concept, which guides fully from 1 on; 2000 in the
    official examples."""
    edit_threshold: float = Field(default=-0.1, ge=-1, le=1)
    """Least lead of the prompt at which a concept guides, and the greatest for one that is
    reversed; -0.1 to -0.2 in the official examples."""
    edit_momentum_scale: float = Field(default=0.25, ge=0, le=1)
    """Share of the momentum that is added in each step; 0.25 in the official examples."""
    edit_mom_beta: float = Field(default=0.6, ge=0, lt=1)
    """Share of the momentum that stays from step to step; 0.6 in the official examples."""

    def semantic(self, batch: Batch) -> StableArtistGuidance:
        """Returns the guidance of a batch, whose momentum starts from nothing."""
        return StableArtistGuidance(
            base=self.guidance,
            concepts=self.concepts(batch),
            momentum_scale=self.edit_momentum_scale,
            mom_beta=self.edit_mom_beta,
            to_eps=batch.eps,
        )
