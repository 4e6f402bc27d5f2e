"""Embeddings that were fitted to each source, as the prompts of a branch."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.schedule import Step
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from torch import Tensor


def fitted_tokens(batch: Batch, column: Column) -> "Callable[[Step], Tensor]":
    """Returns the fitted token embeddings bsd of a batch by step."""
    import torch

    fits = [request.values[column.name] for request in batch.requests]
    tokens = torch.stack([fit.tokens_ntd for fit in fits], dim=1)
    return lambda step: tokens[step.index]


def fitted_negative(batch: Batch) -> "Callable[[Step], PromptEmbeds]":
    """Returns the fitted negative prompts of a batch by step."""
    tokens = fitted_tokens(batch, c.FITTED_NEGATIVE)
    empty = batch.negative_prompts("")
    return lambda step: empty._replace(tokens_bsd=tokens(step))


def mixed_prompts(one: "PromptEmbeds", other: "PromptEmbeds", share: float) -> "PromptEmbeds":
    """Returns the linear mixture of two prompts: `share` 0 is the first, 1 the other."""
    tokens = one.tokens_bsd.lerp(other.tokens_bsd.to(one.tokens_bsd), share)
    if one.pooled_bp is None or other.pooled_bp is None:
        return one._replace(tokens_bsd=tokens)
    pooled = one.pooled_bp.lerp(other.pooled_bp.to(one.pooled_bp), share)
    return one._replace(tokens_bsd=tokens, pooled_bp=pooled)
