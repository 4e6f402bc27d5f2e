"""Embeddings that were fitted to each source, as the prompts of a branch."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.schedule import Step
from overpaint.pipeline import columns as c

if TYPE_CHECKING:
    from overpaint.operators.diffusion.prompts import PromptEmbeds


def fitted_negative(batch: Batch) -> "Callable[[Step], PromptEmbeds]":
    """Returns the fitted negative prompts of a batch by step."""
    import torch

    fits = [request.values[c.FITTED_NEGATIVE.name] for request in batch.requests]
    tokens = torch.stack([fit.tokens_ntd for fit in fits], dim=1)
    empty = batch.negative_prompts("")
    return lambda step: empty._replace(tokens_bsd=tokens[step.index])
