"""Cross-attention mixed by a mask, and a pull to the source's score, of CSG (arXiv 2305.18007).

Shapes: n branches, b rows, h heads, q queries, s source tokens, t target tokens, d channels of a
token; c latent channels, h and w latent pixels.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overpaint.operators.controls.observing import ObserveAttention
from overpaint.operators.controls.prompt_to_prompt import align
from overpaint.operators.diffusion.attention import Site
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.state import StepState

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MixCrossAttention:
    """Edit that gives the branch `text` the source's cross-attention outside a mask (mixup).

    Attributes:
        words_bst: source tokens that a target token takes its map from.
        mask_b1hw: share of the target's own maps.
    """

    words_bst: "Tensor"
    mask_b1hw: "Tensor"

    def applies(self, site: Site) -> bool:
        """Tells whether a site is cross-attention."""
        return site.layer.is_cross

    def __call__(self, site: Site, maps: "Tensor") -> "Tensor":
        """Returns maps nbhqk in which `text` mixes both."""
        from torch.nn import functional

        mask = functional.interpolate(self.mask_b1hw, site.size, mode="bilinear")
        source, text = maps[site.branches.index("source")], maps[site.branches.index("text")]
        given = source @ self.words_bst[:, None].to(maps)
        edited = maps.clone()
        edited[site.branches.index("text")] = given.lerp(text, mask.to(maps).flatten(2)[..., None])
        return edited


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PosteriorGuidance:
    """Hook that pulls latents outside a mask to the source's, by the score of their posterior.

    Attributes:
        scale: strength, `posterior_guidance`.
        mask_b1hw: share of the edited thing.
        trajectory_sbchw: inverted paths.
        walked: indices of the walked steps.
    """

    scale: float
    mask_b1hw: "Tensor"
    trajectory_sbchw: "Tensor"
    walked: range

    def __call__(self, latents_bchw: "Tensor", state: StepState) -> "Tensor":
        """Returns the latents after the pull, less of them in each step."""
        step = state.step
        share = (step.index - self.walked.start) / max(1.5 * (len(self.walked) - 1), 1.0)
        reach = max(math.cos(math.pi * share), 0.0)
        signal = (step.alpha_bar_next / step.alpha_bar) ** 0.5
        gamma = signal - ((1.0 - step.alpha_bar_next) / (1.0 - step.alpha_bar)) ** 0.5
        away = state.latents_bchw - self.trajectory_sbchw[step.index]
        pull = (1.0 - self.mask_b1hw) * (self.mask_b1hw < reach)
        return latents_bchw - gamma * self.scale * pull * away


def smoothed_mask(observed: ObserveAttention, size: tuple[int, int]) -> "Tensor":
    """Returns the places of the observed word, b1hw, 0 to 1, smoothed by self-attention.

    Each row's greatest value is 1; a row without the word has 0.
    """
    from torch.nn import functional

    grid = observed.self_grid
    words = observed.words(grid, "bicubic")
    first = (words / words.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)).clamp(0.0, 1.0)
    mask = (observed.places() @ first.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, grid)
    mask = mask / mask.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
    return functional.interpolate(mask, size, mode="bilinear")


def matched_words(batch: Batch) -> "tuple[Tensor, Tensor]":
    """Returns source tokens bst for each target token, and weights bs of those that change.

    Tokens correspond as Prompt-to-Prompt aligns them; one without a partner takes the source token
    with the nearest embedding.
    """
    import torch
    from overpaint.operators.diffusion.prompts import eos_token_id, token_ids

    sources, targets = batch.source_prompts(), [request.prompt for request in batch.requests]
    likeness = torch.cosine_similarity(
        batch.prompts(sources).tokens_bsd.float()[:, :, None],
        batch.prompts(targets).tokens_bsd.float()[:, None],
        dim=-1,
    )
    words: list[Tensor] = []
    changed: list[Tensor] = []
    for source, target, alike in zip(sources, targets, likeness.cpu(), strict=True):
        source_ids, target_ids = token_ids(batch.model, source), token_ids(batch.model, target)
        aligned = align(source_ids, target_ids, eos_token_id(batch.model))
        nearest = torch.nn.functional.one_hot(alike.argmax(dim=0), len(source_ids)).T.float()
        words.append(aligned.where(aligned.any(dim=0), nearest))
        same = torch.tensor(source_ids)[:, None] == torch.tensor(target_ids)[None]
        changed.append(1.0 - ((aligned > 0) & same).any(dim=1).float())
    device = batch.model.device
    return torch.stack(words).to(device), torch.stack(changed).to(device)
