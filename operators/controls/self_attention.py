"""The source's self-attention for the edited picture, which then keeps its layout.

Plug-and-Play (arXiv 2211.12572) takes the source's queries and keys: what belongs together stays
together, its looks may change. MasaCtrl (arXiv 2304.08465) takes keys and values: the looks stay,
the layout may change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from overpaint.operators.diffusion.attention import Heads, Layer
from overpaint.operators.diffusion.schedule import Step
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ShareSelfAttention:
    """Gives every branch parts of the self-attention of the branch `source`.

    Attributes:
        keep: `layout` takes queries and keys, `looks` takes keys and values.
        rows_b: bool, the rows in which it does.
        steps: the steps, by index, in which it does.
        deepest: it does in layers from the coarsest up to this many halvings of the latent.
    """

    keep: Literal["layout", "looks"]
    rows_b: Tensor
    steps: range
    deepest: int = 0

    def applies(self, layer: Layer, step: Step) -> bool:
        """In self-attention, in its steps."""
        return not layer.is_cross and step.index in self.steps and layer.depth >= self.deepest

    def __call__(self, branches: Sequence[str], heads: Heads) -> Heads:
        """Heads in which all branches share the source's."""
        index = branches.index("source")
        rows = self.rows_b[None, :, None, None, None]

        def shared(part: Tensor) -> Tensor:
            return torch.where(rows, part[index : index + 1], part)

        if self.keep == "layout":
            return Heads(shared(heads.query), shared(heads.key), heads.value)
        return Heads(heads.query, shared(heads.key), shared(heads.value))
