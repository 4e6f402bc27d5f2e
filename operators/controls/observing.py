"""Attention that a branch pays over many steps: to words, and of places to each other.

Shapes: b rows, h heads, q queries, k keys, w words; h and w also sides of a grid, in `hw`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.attention import AttentionEdits, Layer, Site
from overpaint.operators.diffusion.batch import Batch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ObserveAttention:
    """Edit that changes nothing, and sums the attention of one branch over calls.

    Attributes:
        branch: branch that is observed.
        words_bwk: weights of the tokens of each word.
        cross_layers: names of the cross-attention layers.
        self_layers: names of the self-attention layers, all of one grid.
        sums: sums over calls by layer: bwhw of words, and bqk of places.
        grids: rows and columns of each layer's grid.
    """

    branch: str
    words_bwk: "Tensor"
    cross_layers: Collection[str]
    self_layers: Collection[str]
    sums: "dict[str, Tensor]" = field(default_factory=dict[str, "Tensor"])
    grids: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])

    @property
    def edits(self) -> AttentionEdits:
        """The edits of a call that observes."""
        return AttentionEdits(maps=[self])

    def applies(self, site: Site) -> bool:
        """Tells whether a site is one of the layers, in a call with the branch."""
        name = site.layer.name
        observed = name in self.cross_layers or name in self.self_layers
        return observed and self.branch in site.branches

    def __call__(self, site: Site, maps: "Tensor") -> "Tensor":
        """Adds the branch's part of the maps nbhqk."""
        name = site.layer.name
        seen = maps[site.branches.index(self.branch)].float().mean(dim=1)
        if site.layer.is_cross:
            words = seen @ self.words_bwk.to(seen).transpose(1, 2)
            seen = words.transpose(1, 2).unflatten(2, site.size)
        self.sums[name] = self.sums[name] + seen if name in self.sums else seen
        self.grids[name] = site.size
        return maps

    @property
    def self_grid(self) -> tuple[int, int]:
        """Rows and columns of the grid of places that look at each other."""
        return next(self.grids[name] for name in self.self_layers)

    def words(self, size: tuple[int, int], mode: str = "bilinear") -> "Tensor":
        """Returns the attention to words bwhw: the mean of layers, on one grid, of any scale."""
        import torch
        from torch.nn import functional

        resized = [
            functional.interpolate(self.sums[name], size, mode=mode, align_corners=False)
            for name in sorted(self.cross_layers)
        ]
        return torch.stack(resized).mean(dim=0)

    def places(self) -> "Tensor":
        """Returns the mean attention bqk of places to each other; that of a place sums to 1."""
        import torch

        total = torch.stack([self.sums[name] for name in sorted(self.self_layers)]).sum(dim=0)
        return total / total.sum(dim=2, keepdim=True)


def observe_source(batch: Batch, observed: ObserveAttention) -> None:
    """Observes the source along its inverted path: one prediction in each walked step."""
    prompts = {"source": batch.prompts(batch.source_prompts())}
    for step in batch.steps:
        batch.predict(batch.trajectory_sbchw[step.index], step, prompts, observed.edits)


def coarse_cross_layers(layers: Sequence[Layer]) -> set[str]:
    """Returns the cross-attention layers at a quarter of the resolution, or at the lowest, or less.

    In Stable Diffusion they have 16 by 16 places and 8 by 8.
    """
    cross = [layer for layer in layers if layer.is_cross]
    depth = min(2, max(layer.depth for layer in cross))
    return {layer.name for layer in cross if layer.depth >= depth}


def half_resolution_self_layers(layers: Sequence[Layer]) -> set[str]:
    """Returns the self-attention layers at half of the resolution, or the next lower that has any.

    In Stable Diffusion they have 32 by 32 places.
    """
    own = [layer for layer in layers if layer.kind == "self"]
    depths = {layer.depth for layer in own}
    depth = min((depth for depth in depths if depth >= 1), default=max(depths))
    return {layer.name for layer in own if layer.depth == depth}


def normalised(maps_bwhw: "Tensor") -> "Tensor":
    """Returns maps of words, each from 0 to 1; a map without contrast is 0."""
    low = maps_bwhw.amin(dim=(2, 3), keepdim=True)
    spread = maps_bwhw.amax(dim=(2, 3), keepdim=True) - low
    return (maps_bwhw - low) / spread.clamp_min(1e-12)
