"""Contrast of self-attention features: a place of an edit should resemble its place of the source.

PatchNCE (arXiv 2007.15651) on the outputs of a UNet's self-attention, as Contrastive Denoising
Score uses it (arXiv 2311.18608).

Shapes: n branches, b rows, q places of a grid, c channels, h and w rows and columns of the grid;
p sampled places.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.attention import AttentionEdits, Site

if TYPE_CHECKING:
    from torch import Generator, Tensor

_TEMPERATURE = 0.07
"""Temperature of the softmax, as in the official code."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RecordSelfAttention:
    """Edit that changes nothing, and keeps the outputs of the decoder's self-attention.

    Attributes:
        branch: branch whose outputs are kept.
        outputs: outputs bchw, by the name of their layer.
    """

    branch: str
    outputs: "dict[str, Tensor]" = field(default_factory=dict["str", "Tensor"])

    @property
    def edits(self) -> AttentionEdits:
        """The edits of a call that records."""
        return AttentionEdits(outputs=[self])

    def applies(self, site: Site) -> bool:
        """Tells whether a site is self-attention of the decoder."""
        return site.layer.kind == "self" and site.layer.name.startswith("up_blocks")

    def __call__(self, site: Site, output: "Tensor") -> "Tensor":
        """Keeps the output nbqc of one branch."""
        kept = output[site.branches.index(self.branch)].transpose(1, 2)
        self.outputs[site.layer.name] = kept.unflatten(2, site.size)
        return output


def patch_nce(
    source: "Mapping[str, Tensor]",
    edited: "Mapping[str, Tensor]",
    *,
    patch_sizes: Sequence[int],
    num_patches: int,
    generators: "Sequence[Generator]",
) -> "Tensor":
    """Returns the loss of each row, summed over layers and sizes of patches.

    Args:
        source: features bchw of the source, by layer; no gradient flows into them.
        edited: features bchw of the edit, by layer.
        patch_sizes: sides of the patches over which features are averaged.
        num_patches: patches of a row that are compared, at most.
        generators: each row's own, for its patches.
    """
    import torch
    from torch.nn import functional

    losses: list[Tensor] = []
    for name, features in edited.items():
        for size in patch_sizes:
            pooled = [
                functional.normalize(
                    functional.avg_pool2d(feature.float(), min(size, *feature.shape[2:])), dim=1
                ).flatten(2)
                for feature in (source[name].detach(), features)
            ]
            # A row's patches are its own draw; where all are taken, their order is the same.
            places = _places(pooled[0], num_patches, generators)
            one, other = (feature.gather(2, places) for feature in pooled)
            logits = one.transpose(1, 2) @ other / _TEMPERATURE
            positive = torch.diagonal(logits.log_softmax(dim=2), dim1=1, dim2=2)
            losses.append(-positive.mean(dim=1))
    return torch.stack(losses).sum(dim=0)


def _places(
    features_bcq: "Tensor", num_patches: int, generators: "Sequence[Generator]"
) -> "Tensor":
    """Returns the places bcp of the patches that are compared, each row's own."""
    import torch

    _, channels, count = features_bcq.shape
    if count <= num_patches:
        chosen = torch.arange(count).expand(len(features_bcq), -1)
    else:
        drawn = [torch.randperm(count, generator=generator) for generator in generators]
        chosen = torch.stack(drawn)[:, :num_patches]
    return chosen.to(features_bcq.device)[:, None].expand(-1, channels, -1)
