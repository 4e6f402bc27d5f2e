"""Plug-and-Play (arXiv 2211.12572): the source's layout for another prompt, on an inverted source.

In the first steps, features of a coarse decoder block and self-attention maps of the decoder are
the source's: they say where things are, and little of how they look.
"""

from collections.abc import Mapping

from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.controls.sharing import (
    ShareAttention,
    ShareFeature,
    self_attention_layers,
    source_on_trajectory,
)
from overpaint.operators.diffusion.attention import AttentionEdits
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.schedule import Window
from overpaint.pipeline import columns as c
from pydantic import Field


class PlugAndPlay(TextGuided):
    """Features and self-attention of the source in the first steps: its layout, redrawn."""

    papers = ("2211.12572", "2206.02779")
    family = "F06"
    edit_types = ("style", "texture", "color", "background")
    needs = (c.INVERTED_PATH,)
    reads_seed = False

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance; 7.5 in the official code."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked; all of them in the paper."""
    pnp_f_t: float = Field(default=0.8, ge=0, le=1)
    """Share of the walked steps, from the first on, with the source's features; 0.8 in the official
    code."""
    pnp_attn_t: float = Field(default=0.5, ge=0, le=1)
    """Share of the walked steps, from the first on, with the source's self-attention; 0.5 in the
    official code."""

    def branches(self) -> Mapping[str, Window]:
        """Returns those of the guidance, and the source while anything of it is injected."""
        return {**super().branches(), "source": (0.0, max(self.pnp_f_t, self.pnp_attn_t))}

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory, with the source's features and self-attention."""
        attention = ShareAttention(
            parts=("query", "key"),
            layers=_decoder_layers(batch),
            steps=batch.window((0.0, self.pnp_attn_t)),
        )
        feature = ShareFeature(layer=_block(batch), steps=batch.window((0.0, self.pnp_f_t)))
        return Sampling(
            start_bchw=batch.trajectory_sbchw[batch.steps[0].index],
            branches={"source": source_on_trajectory(batch)},
            attention=AttentionEdits(qkv=[attention], features=[feature]),
            hooks=[keep_outside_on_trajectory(batch)],
        )


def _decoder_layers(batch: Batch) -> set[str]:
    """Returns the decoder's self-attention layers without those of its first transformer.

    In Stable Diffusion these are the output blocks 4 to 11, as in the paper.
    """
    decoder = [
        layer.name for layer in self_attention_layers(batch) if layer.name.startswith("up_blocks")
    ]
    first = next(iter(decoder), "").split("transformer_blocks")[0]
    return {name for name in decoder if not name.startswith(first)}


def _block(batch: Batch) -> str:
    """Returns the residual block whose features are injected.

    It is the middle one of the decoder's block at a quarter of the resolution, or at the lowest
    that there is: output block 4 in Stable Diffusion, as in the paper.
    """
    residuals = [layer for layer in batch.model.attention.layers if layer.kind == "residual"]
    deepest = max(layer.depth for layer in residuals)
    blocks = [
        layer.name
        for layer in residuals
        if layer.name.startswith("up_blocks") and layer.depth == min(2, deepest)
    ]
    return blocks[(len(blocks) - 1) // 2]
