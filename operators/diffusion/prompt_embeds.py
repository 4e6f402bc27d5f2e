"""Embedded prompts, as the networks read them.

Shapes: b rows, s tokens, d channels, p channels of the pooled embedding, H and W pixels.
"""

from typing import NamedTuple

from torch import Tensor


class PromptEmbeds(NamedTuple):
    """Embedded prompts, one for each row.

    Attributes:
        tokens_bsd: token embeddings.
        pooled_bp: pooled embeddings that an SDXL or FLUX.1 takes beside them; None for others.
        lengths: tokens of each row, after which there is padding that no network sees; None where
            all of a row are seen.
        guidance_scale: scale of a guidance that is distilled into the network.
        image_embeds: what an IP-Adapter sees of each row's reference; None of nothing.
        controls_b3HW: a picture of each row for each ControlNet, 0 to 1; none where it is not used.
    """

    tokens_bsd: Tensor
    pooled_bp: Tensor | None = None
    lengths: tuple[int, ...] | None = None
    guidance_scale: float = 1.0
    image_embeds: Tensor | None = None
    controls_b3HW: tuple[Tensor, ...] = ()  # noqa: N815  the shape's own letters
