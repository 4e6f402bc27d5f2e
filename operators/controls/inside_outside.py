"""Inside-Outside Attention (arXiv 2212.00210): words and places of an object keep to its shape.

Shapes: n branches, b rows, h heads, q queries, k keys, t tokens; h and w latent pixels.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from overpaint.operators.controls.sharing import region_at
from overpaint.operators.diffusion.attention import AttentionEdits, Site

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InsideOutside:
    """Edit that holds attention of every branch to the inside or the outside of a mask.

    Maps are not normalised again. Positions of tokens are those of the prompts, in all branches.

    Attributes:
        mask_b1hw: share of each latent pixel in the object.
        inside_bt: weights of the tokens that name the object; other tokens have 0.
        outside_bt: weights of the prompts' other words; start, end and padding have 0 in both.
        self_attn_schedule: share of attention between inside and outside that is taken away.
    """

    mask_b1hw: "Tensor"
    inside_bt: "Tensor"
    outside_bt: "Tensor"
    self_attn_schedule: float

    @property
    def edits(self) -> AttentionEdits:
        """The edits of a call that is held to the mask."""
        return AttentionEdits(maps=[self])

    def applies(self, site: Site) -> bool:
        """Tells whether a site is attention."""
        return site.layer.kind in ("self", "cross")

    def __call__(self, site: Site, maps: "Tensor") -> "Tensor":
        """Returns the maps nbhqk with weights."""
        inside = region_at(self.mask_b1hw, site.size)
        if site.layer.is_cross:
            words = self.outside_bt[:, None].where(~inside[..., None], self.inside_bt[:, None])
            return maps * words[:, None].to(maps)
        parted = inside[:, :, None] != inside[:, None, :]
        return maps * (1.0 - self.self_attn_schedule * parted[:, None].to(maps))


def prompt_words(model: "LatentModel", prompt: str) -> "Tensor":
    """Returns 1 for the tokens t of a prompt between its start and its end, 0 for all others."""
    import torch
    from overpaint.operators.diffusion.prompts import eos_token_id, token_ids

    ids = token_ids(model, prompt)
    end = ids.index(eos_token_id(model)) if eos_token_id(model) in ids else len(ids)
    words = torch.zeros(len(ids), device=model.device)
    words[1:end] = 1.0
    return words


def kept_words(model: "LatentModel", source_prompt: str, prompt: str) -> "Tensor":
    """Returns 1 for the tokens t of a prompt that are also those of the source prompt, else 0."""
    import torch
    from overpaint.operators.controls.prompt_to_prompt import align
    from overpaint.operators.diffusion.prompts import eos_token_id, token_ids

    source, target = token_ids(model, source_prompt), token_ids(model, prompt)
    same = torch.tensor(source)[:, None] == torch.tensor(target)[None]
    aligned = align(source, target, eos_token_id(model)) > 0
    return (aligned & same).any(dim=0).float().to(model.device)
