"""Segments of a picture by self-attention, named by the words that attend to them.

Places whose self-attention is alike belong together (Local Prompt Mixing, arXiv 2303.11306).

Shapes: b rows, q places of a grid, k places that are looked at, t tokens, w words; the sides of a
grid are h and w in `hw`.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from overpaint.operators.controls.observing import ObserveAttention, normalised

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel
    from torch import Tensor

_FUNCTION_WORD = re.compile(
    "an?|and|are|at|behind|beside|below|by|for|from|in|is|near|next|of|on|over|the|to|under|with"
)
"""English words that name nothing."""


def name_weights(
    model: "LatentModel", prompts: Sequence[str], objects_bt: "Tensor", kept: Sequence[str]
) -> "Tensor":
    """Returns weights bwt of an object, of things to keep, and of all other words that can name.

    Words that a prompt lacks weigh 0, so that all rows have the same number.

    Args:
        model: model that reads the prompts.
        prompts: one of each row.
        objects_bt: weights of the object's tokens.
        kept: phrases for things to keep.
    """
    import torch
    from overpaint.operators.controls.words import tokens_of

    rows: list[Tensor] = []
    for prompt, object_t in zip(prompts, objects_bt, strict=True):
        names = [
            word for word in dict.fromkeys(prompt.split()) if not _FUNCTION_WORD.fullmatch(word)
        ]
        weights = torch.zeros(1 + len(kept) + len(object_t), len(object_t))
        for index, phrase in enumerate([*kept, *names[: len(object_t)]], start=1):
            weights[index] = torch.tensor(tokens_of(model, prompt, phrase))
        weights = weights.to(object_t) * (1.0 - object_t)
        weights[0] = object_t
        rows.append(weights)
    return torch.stack(rows)


def object_segment(
    observed: ObserveAttention,
    seeds: Sequence[int],
    *,
    num_segments: int,
    threshold: float,
    size: tuple[int, int],
) -> "Tensor":
    """Returns the segments that the first word names, b1hw, 0 or 1.

    Args:
        observed: attention, whose first word is the object.
        seeds: seed of each row, for the first means of its clusters.
        num_segments: clusters of places.
        threshold: least attention of a name, in the range of its map; below it is background.
        size: rows and columns of the grid that is returned.
    """
    import torch
    from torch.nn import functional

    grid = observed.self_grid
    words = normalised(observed.words(grid)).flatten(2)
    segments: list[Tensor] = []
    for places, attention, seed in zip(observed.places(), words, seeds, strict=True):
        clusters = _clusters(places, num_segments, seed).to(places)
        shares = clusters / clusters.sum(dim=1, keepdim=True).clamp_min(1.0)
        scores = attention @ shares.T
        named = (scores.argmax(dim=0) == 0) & (scores[0] > threshold)
        segments.append(named.to(places) @ clusters)
    return functional.interpolate(torch.stack(segments).unflatten(1, grid)[:, None], size)


def _clusters(places_qk: "Tensor", num_segments: int, seed: int) -> "Tensor":
    """Returns clusters of places by k-means, 10 rounds, bool, segments by q."""
    import numpy as np
    import torch
    from scipy.spatial.distance import cdist

    rows = places_qk.double().cpu().numpy()
    num_segments = min(num_segments, len(rows))
    generator = np.random.default_rng(seed)
    means = rows[np.sort(generator.choice(len(rows), num_segments, replace=False))]
    for _ in range(10):
        labels = cdist(rows, means).argmin(axis=1)
        own = [rows[labels == index] for index in range(num_segments)]
        # An empty cluster keeps its mean.
        means = np.stack([r.mean(axis=0) if len(r) else m for r, m in zip(own, means, strict=True)])
    labels = cdist(rows, means).argmin(axis=1)
    return torch.from_numpy(labels[None] == np.arange(num_segments)[:, None])
