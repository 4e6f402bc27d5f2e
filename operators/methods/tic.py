"""TIC (arXiv 2312.14611): sampling that is enhanced by features of the inversion.

Queries look at the keys and values of the source's inversion. In the mask they look at their own as
well (mask-guided concatenation), so that new things are drawn there and nowhere else.
"""

from collections.abc import Collection

from overpaint.operators.controls.sharing import JoinAttention
from overpaint.operators.diffusion.attention import QKVEdit
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.methods.fec import FEC


class TIC(FEC):
    """Inversion-enhanced control with mask-guided concatenation.

    There is no official code. Steps and layers are those of MasaCtrl. A row without a mask
    concatenates everywhere.
    """

    papers = ("2312.14611", "2304.08465")
    edit_types = ("pose", "viewpoint", "expression", "resize", "replace")

    join: bool = True
    """Concatenation of the branch's own keys and values in the mask; False looks at the inversion
    alone."""

    def mutual(self, batch: Batch, layers: Collection[str], steps: range) -> QKVEdit:
        """Returns the edit by which queries look at the inversion."""
        if not self.join:
            return super().mutual(batch, layers, steps)
        return JoinAttention(layers=layers, steps=steps, region_b1hw=batch.mask_b1hw)
