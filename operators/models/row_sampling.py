"""Sampling of a model's words by noise that each row draws for itself.

The likeliest token after Gumbel noise has been added to the logits is a sample of their softmax
("Gumbel-max"), so that a row's words depend on its own seed and not on the rows beside it.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from overpaint.pipeline.identity import digest

if TYPE_CHECKING:
    import torch

_MAX_SEED = 2**63


def word_noise(
    seeds: Sequence[int], temperature: float
) -> "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]":
    """Returns a processor of logits under which the likeliest token is a sample.

    Args:
        seeds: seed of each row of the batch.
        temperature: divisor of the logits, above 0.

    Returns:
        Function of the tokens so far, and of the logits, bv, for `generate` of one batch.
    """
    import torch

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def noisy(ids: torch.Tensor, logits_bv: torch.Tensor) -> torch.Tensor:
        del ids
        shape = logits_bv.shape[-1:]
        uniform = torch.stack([torch.rand(shape, generator=each) for each in generators])
        noise_bv = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        return logits_bv.float() / temperature + noise_bv.to(logits_bv.device)

    return noisy


def pass_seed(seed: int, number: int, question: int) -> int:
    """Returns the seed of a question in one of several passes of a row.

    Args:
        seed: the row's seed.
        number: number of the pass.
        question: number of the question.
    """
    return int(digest([seed, number, question]), 16) % _MAX_SEED
