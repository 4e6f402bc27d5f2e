"""Losses of Dynamic Prompt Learning (arXiv 2309.15664): each noun looks at its own thing.

Shapes: b rows, a heads, q places, t tokens, w words (as many as tokens; absent ones are zero).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from overpaint.operators.diffusion.batch import Batch

if TYPE_CHECKING:
    from torch import Tensor

_FUNCTION_WORDS = frozenset(
    [
        *("a", "an", "the", "this", "that", "these", "those", "its", "his", "her", "their"),
        *("and", "or", "of", "on", "in", "at", "to", "by", "with", "from", "for", "near", "next"),
        *("under", "over", "above", "below", "behind", "beside", "between", "into", "inside"),
        *("onto", "is", "are"),
    ]
)
"""Words that end the noun phrase before them."""


class DynamicLosses(NamedTuple):
    """Losses b of each row.

    Attributes:
        attention: 1 less the greatest attention of the least attended noun.
        background: mean cosine of a noun's map and the background.
        disjoint: mean cosine of two nouns' maps.
    """

    attention: "Tensor"
    background: "Tensor"
    disjoint: "Tensor"


def nouns(batch: Batch) -> "Tensor":
    """Returns the shares of tokens in each noun of the source prompts, bwt.

    A noun is the last word of a run of words that are not function words.
    """
    import torch
    from overpaint.operators.diffusion.prompts import eos_token_id, token_ids

    tokenizer, _ = batch.model.text[0]
    shares: list[Tensor] = []
    for prompt in batch.source_prompts():
        ids = token_ids(batch.model, prompt)
        end = ids.index(eos_token_id(batch.model)) if eos_token_id(batch.model) in ids else len(ids)
        pieces: list[str] = tokenizer.convert_ids_to_tokens(ids[1:end])
        share = torch.zeros(len(ids), len(ids))
        for word, places in enumerate(_heads(pieces)):
            share[word, [place + 1 for place in places]] = 1.0 / len(places)
        shares.append(share)
    return torch.stack(shares).to(batch.model.device)


def _heads(pieces: Sequence[str]) -> list[list[int]]:
    """Returns the places of the pieces of each noun."""
    words: list[tuple[str, list[int]]] = [("", [])]
    for place, piece in enumerate(pieces):
        text, places = words.pop()
        words.append((text + piece.removesuffix("</w>"), [*places, place]))
        if piece.endswith("</w>"):
            words.append(("", []))
    content = [places if text not in _FUNCTION_WORDS else [] for text, places in words if places]
    following = [*content[1:], []]
    return [now for now, after in zip(content, following, strict=True) if now and not after]


def dynamic_losses(
    maps: "Sequence[Tensor]", nouns_bwt: "Tensor", size: tuple[int, int]
) -> DynamicLosses:
    """Returns the three losses of each row.

    Args:
        maps: cross-attention maps baqt of layers of one size.
        nouns_bwt: shares of tokens in each noun.
        size: rows and columns of the maps.
    """
    import torch

    mean_bqt = torch.stack([layer.float().mean(dim=1) for layer in maps]).mean(dim=0)
    is_noun = nouns_bwt.sum(dim=2)
    # The token that begins a prompt takes most of the attention; words share out the rest.
    words_bqt = torch.softmax(100.0 * mean_bqt[:, :, 1:], dim=2)
    strong_bwq = nouns_bwt[:, :, 1:] @ words_bqt.transpose(1, 2)
    peak_bw = _blurred(strong_bwq, size).amax(dim=2)
    attention = ((1.0 - peak_bw) * is_noun).amax(dim=1)
    places_bwq = nouns_bwt @ mean_bqt.transpose(1, 2)
    peak = places_bwq.detach().amax(dim=2, keepdim=True)
    is_thing = ((places_bwq.detach() >= 0.5 * peak) & (peak > 0)).any(dim=1)
    unit_bwq = places_bwq / places_bwq.square().sum(dim=2, keepdim=True).add(1e-12).sqrt()
    background_bq = (~is_thing).to(unit_bwq)
    away_bq = background_bq / background_bq.square().sum(dim=1, keepdim=True).add(1e-12).sqrt()
    background = (unit_bwq @ away_bq[:, :, None])[..., 0].sum(dim=1)
    pairs_bww = torch.triu(unit_bwq @ unit_bwq.transpose(1, 2), diagonal=1)
    count = is_noun.sum(dim=1)
    return DynamicLosses(
        attention,
        background / count.clamp_min(1.0),
        pairs_bww.sum(dim=(1, 2)) / (count * (count - 1.0) / 2.0).clamp_min(1.0),
    )


def _blurred(maps_bwq: "Tensor", size: tuple[int, int]) -> "Tensor":
    """Returns maps after a Gaussian of 3 by 3 and a spread of 0.5."""
    import torch
    from torch.nn import functional

    line = torch.exp(-0.5 * (torch.arange(-1.0, 2.0) / 0.5) ** 2)
    kernel = (line[:, None] * line / line.sum() ** 2).to(maps_bwq)
    grid = functional.pad(
        maps_bwq.flatten(0, 1).unflatten(1, size)[:, None], (1, 1, 1, 1), "reflect"
    )
    return functional.conv2d(grid, kernel[None, None])[:, 0].flatten(1).view_as(maps_bwq)
