"""The attention processor that lets controls act in a diffusers UNet.

Shapes: n branches, b rows, h heads, q queries, k keys, d channels of a head.
"""

from typing import Any

import torch
from overpaint.operators.diffusion.attention import (
    QKV,
    AttentionControl,
    AttentionEdits,
    Layer,
    Site,
)
from torch import Tensor
from torch.nn import functional


def install_attention_control(unet: Any) -> AttentionControl:
    """Puts a switch for attention edits into a UNet2DConditionModel."""
    control = AttentionControl()
    deepest = len(unet.config.block_out_channels) - 1
    unet.set_attn_processor(
        {
            name: _Processor(_layer(name, deepest), control, original)
            for name, original in unet.attn_processors.items()
        }
    )
    return control


def _layer(name: str, deepest: int) -> Layer:
    words = name.split(".")
    depth = {"down_blocks": lambda: int(words[1]), "up_blocks": lambda: deepest - int(words[1])}
    return Layer(name, "attn2" in words, depth.get(words[0], lambda: deepest)())


class _Processor:
    """A diffusers attention processor that applies the edits that are on, if there are any."""

    def __init__(self, layer: Layer, control: AttentionControl, original: Any) -> None:
        self._layer = layer
        self._control = control
        self._original = original

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        site, edits = self._control.edits_of(self._layer)
        if site is None or not (edits.qkv or edits.maps):
            return self._original(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        # The transformer blocks of these UNets have neither a mask nor a norm of their own here.
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        attended = _attend(attn, hidden_states, context, site, edits)
        attended = attn.to_out[1](attn.to_out[0](attended))
        if attn.residual_connection:
            attended = attended + hidden_states
        return attended / attn.rescale_output_factor


def _attend(
    attn: Any, hidden: Tensor, context: Tensor, site: Site, edits: AttentionEdits
) -> Tensor:
    def split(tensor: Tensor) -> Tensor:
        heads = tensor.unflatten(0, (len(site.branches), -1)).unflatten(-1, (attn.heads, -1))
        return heads.transpose(2, 3)

    qkv = QKV(split(attn.to_q(hidden)), split(attn.to_k(context)), split(attn.to_v(context)))
    for edit_qkv in edits.qkv:
        qkv = edit_qkv(site, qkv)
    if not edits.maps:
        query, key, value = (tensor.flatten(0, 1) for tensor in qkv)
        attended = functional.scaled_dot_product_attention(query, key, value)
        return attended.transpose(1, 2).flatten(2)
    maps = torch.softmax(qkv.query @ qkv.key.transpose(-1, -2) * attn.scale, dim=-1)
    for edit_maps in edits.maps:
        maps = edit_maps(site, maps)
    return (maps @ qkv.value).flatten(0, 1).transpose(1, 2).flatten(2)
