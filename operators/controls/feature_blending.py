"""Features of the source outside a mask, and words that look inside of it alone.

Progressive feature blending (arXiv 2306.16894): what enters the residual blocks of a UNet is the
source's outside the mask, so that an edit fits to what is around it.

Shapes: n branches, b rows, c channels of a feature of h by w places; h heads, q places, k tokens.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.attention import Site
from overpaint.operators.diffusion.batch import Batch

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BlendFeatures:
    """Edit that gives every branch the features of the branch `source` outside a mask.

    Attributes:
        mask_b1hw: 1 may change, 0 is the source's; a share in between mixes.
        layers: names of the layers.
        steps: indices of the steps in which the edit applies.
    """

    mask_b1hw: "Tensor"
    layers: Collection[str]
    steps: range

    def applies(self, site: Site) -> bool:
        """Tells whether a site is one of the layers in one of the steps."""
        return site.layer.name in self.layers and site.step.index in self.steps

    def __call__(self, site: Site, feature: "Tensor") -> "Tensor":
        """Returns the blended feature of all branches, nbchw."""
        source = site.branches.index("source")
        mask = at_grid(self.mask_b1hw, site.size).to(feature)
        return feature[source : source + 1].lerp(feature, mask)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KeepWordsInside:
    """Edit by which no place outside a mask attends to some words of the branch `text`.

    What is left of the attention there sums to 1, as with logits of minus infinity.

    Attributes:
        words_bk: 1 for the words, else 0; some tokens of each row are not among them.
        mask_b1hw: 1 may attend to the words.
        layers: names of the layers.
    """

    words_bk: "Tensor"
    mask_b1hw: "Tensor"
    layers: Collection[str]

    def applies(self, site: Site) -> bool:
        """Tells whether a site is one of the layers."""
        return site.layer.name in self.layers

    def __call__(self, site: Site, maps: "Tensor") -> "Tensor":
        """Returns maps nbhqk without the words outside the mask."""
        text = site.branches.index("text")
        is_outside = (at_grid(self.mask_b1hw, site.size) < 0.5).flatten(1)
        forbidden = is_outside[:, None, :, None] & (self.words_bk[:, None, None] > 0)
        allowed = maps[text].masked_fill(forbidden, 0.0)
        edited = maps.clone()
        edited[text] = allowed / allowed.sum(dim=-1, keepdim=True)
        return edited


def at_grid(mask_b1hw: "Tensor", size: tuple[int, int]) -> "Tensor":
    """Returns a mask at a layer's grid, bicubic, 0 to 1."""
    from torch.nn import functional

    if tuple(mask_b1hw.shape[2:]) == size:
        return mask_b1hw
    scaled = functional.interpolate(mask_b1hw, size, mode="bicubic", align_corners=False)
    return scaled.clamp(0.0, 1.0)


def coarse_layers(batch: Batch, kind: str) -> set[str]:
    """Returns the names of the layers of a kind in the coarse levels of a batch's UNet.

    These have a quarter of the latents' resolution or less, or the lowest that there is: 16 by 16
    and 8 by 8 places in Stable Diffusion.
    """
    layers = batch.model.attention.layers
    least = min(2, max(layer.depth for layer in layers))
    return {layer.name for layer in layers if layer.kind == kind and layer.depth >= least}


def changed_words(model: "LatentModel", sources: Sequence[str], targets: Sequence[str]) -> "Tensor":
    """Returns weights bk, 1 for the tokens of each target prompt that its source prompt lacks."""
    import torch
    from overpaint.operators.diffusion.prompts import eos_token_id, token_ids

    end_id, rows = eos_token_id(model), list[list[float]]()
    for prompts in zip(sources, targets, strict=True):
        source, target = (token_ids(model, prompt) for prompt in prompts)
        weights = [0.0] * len(target)
        source, words = (ids[: (*ids, end_id).index(end_id)] for ids in (source, target))
        matcher = SequenceMatcher(a=source, b=words, autojunk=False)
        for change, _, _, start, stop in matcher.get_opcodes():
            if change != "equal":
                weights[start:stop] = [1.0] * (stop - start)
        rows.append(weights)
    return torch.tensor(rows, device=model.device)
