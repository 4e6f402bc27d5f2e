"""Source prompts in the place of the negative one.

Negative-prompt inversion (arXiv 2305.16807): an inversion under the source prompt is undone by
guidance that leads away from that prompt, however strong.

Shapes: b rows, s tokens, d channels.
"""

from typing import TYPE_CHECKING

from overpaint.operators.diffusion.batch import Batch

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from torch import Tensor


def source_negative(batch: Batch, npi_interp: float, negative_prompt: str) -> "PromptEmbeds":
    """Returns the source prompts' embeddings, or those on the way from them to the negative one.

    Args:
        batch: rows with inverted sources.
        npi_interp: 0 for the source prompts, 1 for the negative one.
        negative_prompt: other end of the way.
    """
    from overpaint.operators.diffusion.prompts import PromptEmbeds

    source = batch.prompts(batch.source_prompts())
    if npi_interp == 0.0:
        return source
    negative = batch.negative_prompts(negative_prompt)
    tokens = slerp(source.tokens_bsd, negative.tokens_bsd, npi_interp)
    if source.pooled_bp is None or negative.pooled_bp is None:
        return PromptEmbeds(tokens)
    return PromptEmbeds(tokens, slerp(source.pooled_bp, negative.pooled_bp, npi_interp))


def slerp(start_b: "Tensor", end_b: "Tensor", share: float) -> "Tensor":
    """Returns the spherical interpolation of each row, taken as one vector.

    Rows that point in one direction, or are zero, have no arc: they are mixed linearly.
    """
    import torch

    start, end = start_b.flatten(1).double(), end_b.flatten(1).double()
    lengths = start.norm(dim=1, keepdim=True) * end.norm(dim=1, keepdim=True)
    cosine = (start * end).sum(dim=1, keepdim=True) / lengths.clamp(min=1e-12)
    omega = torch.acos(cosine.clamp(-1.0, 1.0))
    sine = torch.sin(omega)
    has_arc = (sine > 1e-4) & (lengths > 1e-12)
    safe = sine.where(has_arc, torch.ones_like(sine))
    along = (torch.sin((1.0 - share) * omega) * start + torch.sin(share * omega) * end) / safe
    return along.where(has_arc, start.lerp(end, share)).view_as(start_b).to(start_b.dtype)
