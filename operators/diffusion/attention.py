"""Attention edits: controls that see queries, keys, values and maps of every attention layer.

A UNet call holds several branches (source, unconditional, text, ...), each with one entry for every
row of the batch. A control may copy between the branches of a row, never between rows.

Shapes: n branches, b rows, h heads, q queries, k keys, d channels of a head.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from overpaint.operators.diffusion.schedule import Step
from torch import Tensor
from torch.nn import functional


class Layer(NamedTuple):
    """An attention layer.

    Attributes:
        name: its path in the UNet.
        is_cross: whether its keys are text.
        depth: how often the latent was halved where it stands: 0 is full resolution.
    """

    name: str
    is_cross: bool
    depth: int


class Heads(NamedTuple):
    """What attention is computed from: queries nbhqd, keys nbhkd and values nbhkd."""

    query: Tensor
    key: Tensor
    value: Tensor


class HeadEdit(Protocol):
    """An edit of queries, keys and values."""

    def applies(self, layer: Layer, step: Step) -> bool:
        """Whether it changes this layer in this step."""
        ...

    def __call__(self, branches: Sequence[str], heads: Heads) -> Heads:
        """Queries, keys and values to use."""
        ...


class MapEdit(Protocol):
    """An edit of attention maps; a layer that computes them takes more memory."""

    def applies(self, layer: Layer, step: Step) -> bool:
        """Whether it changes this layer in this step."""
        ...

    def __call__(self, branches: Sequence[str], maps: Tensor) -> Tensor:
        """Attention maps nbhqk to use."""
        ...


class AttentionEdits(NamedTuple):
    """Edits in the order in which they apply."""

    heads: Sequence[HeadEdit] = ()
    maps: Sequence[MapEdit] = ()


NO_EDITS = AttentionEdits()


@dataclass(eq=False, slots=True)
class AttentionSwitch:
    """Reaches every attention layer of one UNet; off, the layers compute as they always do."""

    edits: AttentionEdits = NO_EDITS
    branches: Sequence[str] = ()
    step: Step | None = None

    @contextmanager
    def on(self, edits: AttentionEdits, branches: Sequence[str], step: Step) -> Generator[None]:
        """Applies edits during one UNet call."""
        self.edits, self.branches, self.step = edits, branches, step
        try:
            yield
        finally:
            self.edits, self.branches, self.step = NO_EDITS, (), None

    def edits_of(self, layer: Layer) -> AttentionEdits:
        """The edits that apply to a layer now."""
        if self.step is None:
            return NO_EDITS
        step = self.step
        return AttentionEdits(
            [edit for edit in self.edits.heads if edit.applies(layer, step)],
            [edit for edit in self.edits.maps if edit.applies(layer, step)],
        )


def install_switch(unet: Any) -> AttentionSwitch:
    """Puts a switch into a UNet2DConditionModel."""
    switch = AttentionSwitch()
    deepest = len(unet.config.block_out_channels) - 1
    unet.set_attn_processor(
        {
            name: _Processor(_layer(name, deepest), switch, original)
            for name, original in unet.attn_processors.items()
        }
    )
    return switch


def _layer(name: str, deepest: int) -> Layer:
    words = name.split(".")
    depth = {"down_blocks": lambda: int(words[1]), "up_blocks": lambda: deepest - int(words[1])}
    find = depth.get(words[0], lambda: deepest)
    return Layer(name, "attn2" in words, find())


class _Processor:
    """A diffusers attention processor that asks the controls, if there are any."""

    def __init__(self, layer: Layer, switch: AttentionSwitch, original: Any) -> None:
        self._layer = layer
        self._switch = switch
        self._original = original

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        edits = self._switch.edits_of(self._layer)
        if not edits.heads and not edits.maps:
            return self._original(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        # The transformer blocks of these UNets have neither a mask nor a norm of their own here.
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        mixed = _attend(attn, hidden_states, context, self._switch.branches, edits)
        mixed = attn.to_out[1](attn.to_out[0](mixed))
        if attn.residual_connection:
            mixed = mixed + hidden_states
        return mixed / attn.rescale_output_factor


def _attend(
    attn: Any, hidden: Tensor, context: Tensor, branches: Sequence[str], edits: AttentionEdits
) -> Tensor:
    def split(tensor: Tensor) -> Tensor:
        parts = tensor.unflatten(0, (len(branches), -1)).unflatten(-1, (attn.heads, -1))
        return parts.transpose(2, 3)

    heads = Heads(split(attn.to_q(hidden)), split(attn.to_k(context)), split(attn.to_v(context)))
    for edit_heads in edits.heads:
        heads = edit_heads(branches, heads)
    if not edits.maps:
        query, key, value = (part.flatten(0, 1) for part in heads)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return mixed.transpose(1, 2).flatten(2)
    maps = torch.softmax(heads.query @ heads.key.transpose(-1, -2) * attn.scale, dim=-1)
    for edit_maps in edits.maps:
        maps = edit_maps(branches, maps)
    return (maps @ heads.value).flatten(0, 1).transpose(1, 2).flatten(2)
