"""The attention processor and the hook that let controls act in a diffusers UNet.

Shapes: n branches, b rows, h heads, q queries, k keys, d channels of a head.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D
from overpaint.operators.diffusion.attention import (
    QKV,
    Attended,
    AttentionControl,
    AttentionEdits,
    Kind,
    Layer,
    Site,
)
from torch import Tensor
from torch.nn import functional

_KINDS: Mapping[str, Kind] = {"attn1": "self", "attn2": "cross", "input": "input"}
"""Kinds by the last word of a layer's name: attention has diffusers' names."""


def install_attention_control(unet: Any) -> AttentionControl:
    """Puts a switch for edits of attention and features into a UNet2DConditionModel."""
    deepest = len(unet.config.block_out_channels) - 1
    processors = {name.removesuffix(".processor"): p for name, p in unet.attn_processors.items()}
    blocks = {name: part for name, part in unet.named_modules() if isinstance(part, ResnetBlock2D)}
    outputs = {f"up_blocks.{index}": part for index, part in enumerate(unet.up_blocks)}
    inputs = _layers([f"{name}.input" for name in blocks], deepest)
    layers = (*_layers([*processors, *blocks], deepest), *inputs, *_blocks(outputs, deepest))
    if unet.mid_block is not None:
        outputs["mid_block"] = unet.mid_block
        middle = Layer("mid_block", "middle", deepest, 0)
        layers = (*layers, middle)
    control = AttentionControl(layers)
    by_name = {layer.name: layer for layer in layers}
    unet.set_attn_processor(
        {
            f"{name}.processor": _Processor(by_name[name], control, original)
            for name, original in processors.items()
        }
    )
    for name, block in blocks.items():
        # The last convolution gives what the block adds; nothing comes between.
        block.conv2.register_forward_hook(partial(_edit_feature, by_name[name], control))
    for name, channels in _running_channels(blocks).items():
        layer = by_name[f"{name}.input"]
        blocks[name].register_forward_pre_hook(partial(_edit_input, layer, control, channels))
    for name, block in outputs.items():
        block.register_forward_hook(partial(_edit_feature, by_name[name], control))
    return control


def _layers(names: Sequence[str], deepest: int) -> tuple[Layer, ...]:
    """Returns the layers of some names in order of execution: down, middle, up."""
    layers: list[Layer] = []
    for name in sorted(names, key=_execution):
        kind = _KINDS.get(name.split(".")[-1], "residual")
        order = sum(layer.kind == kind for layer in layers)
        layers.append(Layer(name, kind, _depth(name.split("."), deepest), order))
    return tuple(layers)


def _blocks(names: Iterable[str], deepest: int) -> list[Layer]:
    """Returns the blocks of the decoder, each but the last of which ends by doubling the grid."""
    return [
        Layer(name, "block", max(deepest - order - 1, 0), order) for order, name in enumerate(names)
    ]


def _depth(words: Sequence[str], deepest: int) -> int:
    match words[0]:
        case "down_blocks":
            return int(words[1])
        case "up_blocks":
            return deepest - int(words[1])
        case _:
            return deepest


def _execution(name: str) -> tuple[int, list[int]]:
    """Returns the key by which layers of one kind are in order of execution."""
    part = ("down_blocks", "mid_block", "up_blocks").index(name.split(".")[0])
    return part, [int(word) for word in name.split(".") if word.isdigit()]


def _edit_feature(
    layer: Layer, control: AttentionControl, _module: Any, _inputs: Any, output: Tensor
) -> Tensor | None:
    """Returns what a block adds, or gives, after the edits that are on; None changes nothing."""
    site, edits = control.edits_of(layer)
    if site is None or not edits.features:
        return None
    feature = output.unflatten(0, (len(site.branches), -1))
    for edit in edits.features:
        feature = edit(site, feature)
    return feature.flatten(0, 1)


def _running_channels(blocks: Mapping[str, ResnetBlock2D]) -> dict[str, int]:
    """Returns the channels that enter each residual block without those that skip to it.

    In the decoder these are what the block before has given; the encoder's are stacked behind them.
    """
    names = sorted(blocks, key=_execution)
    channels = {name: blocks[name].in_channels for name in names}
    decoder = {
        name: int(blocks[before].out_channels or 0)
        for before, name in pairwise(names)
        if name.startswith("up_blocks")
    }
    return {**channels, **decoder}


def _edit_input(
    layer: Layer, control: AttentionControl, channels: int, _module: Any, inputs: tuple[Any, ...]
) -> tuple[Any, ...] | None:
    """Returns the inputs of a residual block after the edits that are on; None changes nothing."""
    site, edits = control.edits_of(layer)
    if site is None or not edits.features:
        return None
    running = inputs[0][:, :channels].unflatten(0, (len(site.branches), -1))
    for edit in edits.features:
        running = edit(site, running)
    edited = torch.cat([running.flatten(0, 1), inputs[0][:, channels:]], dim=1)
    return (edited, *inputs[1:])


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
        encoder_hidden_states: Any = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        site, edits = self._control.edits_of(self._layer)
        if site is None or not (edits.qkv or edits.maps or edits.contexts or edits.outputs):
            return self._original(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        # The transformer blocks of these UNets have neither a mask nor a norm of their own here.
        context, images = encoder_hidden_states, ()
        if isinstance(context, tuple):  # of a UNet with an IP-Adapter: words, and pictures
            context, images = encoder_hidden_states
        context = hidden_states if context is None else context
        attended = _attend(attn, hidden_states, context, site, edits)
        for image, scale, *layers in self._added(images):
            attended = attended + scale * _attend_image(attn, hidden_states, image, *layers)
        attended = attn.to_out[1](attn.to_out[0](attended))
        for edit in edits.outputs:
            output = attended.unflatten(0, (len(site.branches), -1))
            attended = edit(site, output).flatten(0, 1)
        if attn.residual_connection:
            attended = attended + hidden_states
        return attended / attn.rescale_output_factor

    def _added(self, images: Sequence[Tensor]) -> Iterable[tuple[Any, ...]]:
        """Returns what an IP-Adapter attends to, its scale, and its layers of keys and values."""
        own = self._original
        return zip(images, own.scale, own.to_k_ip, own.to_v_ip, strict=True) if images else ()


def _attend_image(attn: Any, hidden: Tensor, image: Tensor, to_key: Any, to_value: Any) -> Tensor:
    """Returns what an IP-Adapter attends to in pictures, as diffusers' processor does."""

    def split(tensor: Tensor) -> Tensor:
        return tensor.flatten(1, -2).unflatten(-1, (attn.heads, -1)).transpose(1, 2)

    query, key, value = split(attn.to_q(hidden)), split(to_key(image)), split(to_value(image))
    return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def _attend(
    attn: Any, hidden: Tensor, context: Tensor, site: Site, edits: AttentionEdits
) -> Tensor:
    def split(tensor: Tensor) -> Tensor:
        heads = tensor.unflatten(0, (len(site.branches), -1)).unflatten(-1, (attn.heads, -1))
        return heads.transpose(2, 3)

    qkv = QKV(split(attn.to_q(hidden)), split(attn.to_k(context)), split(attn.to_v(context)))
    for edit_qkv in edits.qkv:
        qkv = edit_qkv(site, qkv)
    heads = _weighted(site, qkv, edits, attn.scale)
    output = heads.flatten(0, 1).transpose(1, 2).flatten(2)
    for edit_context in edits.contexts:
        attended = Attended(
            query=qkv.query,
            output=output.unflatten(0, (len(site.branches), -1)),
            to_key=attn.to_k,
            to_value=attn.to_v,
            key_weight=attn.to_k.weight,
            scale=attn.scale,
        )
        output = edit_context(site, attended).flatten(0, 1)
    return output


def _weighted(site: Site, qkv: QKV, edits: AttentionEdits, scale: float) -> Tensor:
    """Returns the values nbhqd that are attended to; maps are computed where they are edited."""
    if not edits.maps:
        query, key, value = (tensor.flatten(0, 1) for tensor in qkv[:3])
        bias = qkv.bias
        if bias is not None:
            shape = (*qkv.query.shape[:-1], qkv.key.shape[-2])
            bias = bias.to(query).expand(shape).flatten(0, 1)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return attended.unflatten(0, (len(site.branches), -1))
    logits = qkv.query @ qkv.key.transpose(-1, -2) * scale
    maps = torch.softmax(logits if qkv.bias is None else logits + qkv.bias.to(logits), dim=-1)
    for edit_maps in edits.maps:
        maps = edit_maps(site, maps)
    return maps @ qkv.value
