"""Cross-attention whose keys and values read different embeddings.

The tokens for keys come before those for values in one prompt; an edit takes each part where it
belongs, so that the UNet's own projections make both.

Shapes: n branches, b rows, a heads, t tokens, d channels.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.attention import QKV, Site

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class KeysThenValues:
    """Edit that takes keys from the first half of each prompt, and values from the second."""

    def applies(self, site: Site) -> bool:
        """Tells whether a site is cross-attention."""
        return site.layer.is_cross

    def __call__(self, site: Site, qkv: QKV) -> QKV:
        """Returns queries with half of the keys and values, nbatd."""
        tokens = qkv.key.shape[3] // 2
        return qkv._replace(key=qkv.key[..., :tokens, :], value=qkv.value[..., tokens:, :])


def with_values(keys: "PromptEmbeds", values_btd: "Tensor | None" = None) -> "PromptEmbeds":
    """Returns prompts for `KeysThenValues`.

    Args:
        keys: prompts that keys are made of.
        values_btd: tokens that values are made of; None for those of the keys.
    """
    import torch

    values = keys.tokens_bsd if values_btd is None else values_btd
    return keys._replace(tokens_bsd=torch.cat([keys.tokens_bsd, values], dim=1))
