"""FEC (arXiv 2309.14934): edits that reuse what the inversion of the source has seen.

Sampled anew from its inverted noise, a real source drifts, and an edit that looks at the drifted
source keeps its errors. FEC holds the source to what its inversion has kept.
"""

from typing import Literal

from overpaint.operators.controls.sharing import source_on_trajectory
from overpaint.operators.diffusion.batch import Batch, BranchInputs
from overpaint.operators.methods.masactrl import MasaCtrl

Looked = Literal["path", "inversion"]
"""Latents of the source whose keys and values an edit looks at.

- `path`: those of the step's own level, on the inverted path
- `inversion`: those at which the inversion made its prediction for the step, the cleaner end
"""


class FEC(MasaCtrl):
    """Mutual self-attention with keys and values of the inversion, which are computed again.

    There is no official code. FEC-kv-reuse is `inversion`. FEC-ref, which replaces the source's
    latents, and FEC-noise, which replaces its noise, are both `path`: either gives that path.
    """

    papers = ("2309.14934", "2304.08465")

    source: Looked = "inversion"
    """Latents of the source whose keys and values are looked at."""

    def source_branch(self, batch: Batch) -> BranchInputs:
        """Returns the branch whose keys and values are looked at."""
        if self.source == "path":
            return source_on_trajectory(batch)
        trajectory = batch.trajectory_sbchw
        return BranchInputs(latents=lambda step: trajectory[step.index + 1])
