"""The words that a target prompt has and its source prompt has not: places, and weights.

Shapes: n branches, b rows, a heads, q queries, t target tokens, h and w latent pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.attention import Layer, Site
from overpaint.operators.diffusion.batch import Batch

if TYPE_CHECKING:
    from torch import Tensor


def new_words(batch: Batch) -> "Tensor":
    """Returns the tokens of each target prompt that replace or join those of its source, bool bt.

    Args:
        batch: rows with inverted sources.
    """
    import torch
    from overpaint.operators.diffusion.prompts import token_ids

    words: list[Tensor] = []
    for source, request in zip(batch.source_prompts(), batch.requests, strict=True):
        before, after = token_ids(batch.model, source), token_ids(batch.model, request.prompt)
        is_new = torch.zeros(len(after), dtype=torch.bool)
        matcher = SequenceMatcher(a=before, b=after, autojunk=False)
        for change, _, _, start, stop in matcher.get_opcodes():
            if change in ("replace", "insert"):
                is_new[start:stop] = True
        words.append(is_new)
    return torch.stack(words).to(batch.model.device)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CrossAttentionReweight:
    """Edit that scales the maps of some words in the branch `text` (arXiv 2208.01626).

    Attributes:
        words_bt: bool, the words.
        scale: factor of their maps; 1 changes nothing.
        steps: indices of the steps in which the edit applies.
    """

    words_bt: "Tensor"
    scale: float
    steps: range

    def applies(self, site: Site) -> bool:
        """Tells whether a site is cross-attention in one of the steps."""
        return site.layer.is_cross and site.step.index in self.steps

    def __call__(self, site: Site, maps: "Tensor") -> "Tensor":
        """Returns maps nbaqt in which the words weigh more, or less."""
        text = site.branches.index("text")
        weights = (self.words_bt * (self.scale - 1.0) + 1.0).to(maps)[:, None, None]
        edited = maps.clone()
        edited[text] = maps[text] * weights
        return edited


def places_of(
    maps: "Mapping[str, Tensor]", words_bt: "Tensor", layers: Sequence[Layer], size: tuple[int, int]
) -> "Tensor":
    """Returns the share of each latent pixel, b1hw, of a row's greatest attention to some words.

    Maps are taken at a quarter of the latents' resolution, but not below 8 places a side: 16 by 16
    in Stable Diffusion. A row without such words has zeros.

    Args:
        maps: maps baqt of a branch, by the name of their layer.
        words_bt: bool, the words.
        layers: layers of the UNet.
        size: rows and columns of the latents.
    """
    import torch
    from torch.nn import functional

    depth, names = placing_layers([layer for layer in layers if layer.name in maps], min(size))
    chosen = [maps[name].float().mean(dim=1) for name in names]
    words = torch.stack(chosen).mean(dim=0) * words_bt[:, None]
    height, width = (-(-side // 2**depth) for side in size)
    places = words.amax(dim=2).unflatten(1, (height, width))[:, None]
    places = functional.interpolate(places, size=size, mode="bilinear")
    return places / places.amax(dim=(2, 3), keepdim=True).clamp_min(1e-12)


def placing_layers(layers: Sequence[Layer], side: int) -> tuple[int, list[str]]:
    """Returns the depth of the cross-attention that shows places best, and its layers' names.

    Args:
        layers: layers of a UNet.
        side: latent pixels of the shorter side.
    """
    crossing = [layer for layer in layers if layer.is_cross]
    wanted = max(depth for depth in (0, 1, 2) if depth == 0 or side // 2**depth >= 8)
    depths = {layer.depth for layer in crossing}
    depth = min(depths, key=lambda depth: (abs(depth - wanted), depth))
    return depth, [layer.name for layer in crossing if layer.depth == depth]
