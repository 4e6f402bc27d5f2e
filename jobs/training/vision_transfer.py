"""Weight transfer between the vision transformers of CLIP and BLIP.

The checkpoints clip, clipseg and judge have the former, caption has the latter. CLIP normalizes its
embeddings before the first layer and BLIP does not; all else is equal.

Shapes: n images, 3 RGB channels, h and w pixels.
"""

from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def copy_clip_to_blip(vision: Any, clip: Any, images_n3hw: Tensor) -> None:
    """Copies the weights of CLIP's vision transformer into BLIP's of the same size.

    CLIP's first layer norm is folded into BLIP's embeddings, with the mean standard deviation of
    the embeddings of the images.

    Args:
        vision: vision transformer of BLIP, which is changed.
        clip: vision transformer of CLIP.
        images_n3hw: images that are typical of the data, -1 to 1.
    """
    own, other, norm = vision.embeddings, clip.embeddings, clip.pre_layrnorm
    deviations = other(images_n3hw).std(-1, unbiased=False)
    positions = other.position_embedding.weight
    first = _normalized(other.class_embedding + positions[0], norm, deviations[:, 0].mean())
    own.class_embedding.copy_((first + norm.bias).view(1, 1, -1))
    rest = _normalized(positions[1:], norm, deviations[:, 1:].mean()) + norm.bias
    own.position_embedding.copy_(torch.cat([torch.zeros_like(rest[:1]), rest])[None])
    patches = other.patch_embedding.weight.movedim(0, -1)
    patches = _normalized(patches, norm, deviations[:, 1:].mean()).movedim(-1, 0)
    own.patch_embedding.weight.copy_(patches)
    own.patch_embedding.bias.zero_()
    for layer, source in zip(vision.encoder.layers, clip.encoder.layers, strict=True):
        projections = [getattr(source.self_attn, f"{name}_proj") for name in "qkv"]
        layer.self_attn.qkv.weight.copy_(torch.cat([p.weight for p in projections]))
        layer.self_attn.qkv.bias.copy_(torch.cat([p.bias for p in projections]))
        _copy(layer.self_attn.projection, source.self_attn.out_proj)
        _copy_rest(layer, source)


@torch.no_grad()
def copy_blip_to_clip(clip: Any, vision: Any, images_n3hw: Tensor) -> None:
    """Copies the weights of BLIP's vision transformer into CLIP's of the same size.

    CLIP's first layer norm is set so that it is the identity for patches of the mean and the
    standard deviation that the images have on average.

    Args:
        clip: vision transformer of CLIP, which is changed.
        vision: vision transformer of BLIP.
        images_n3hw: images that are typical of the data, -1 to 1.
    """
    own, other, norm = clip.embeddings, vision.embeddings, clip.pre_layrnorm
    patches = other(images_n3hw)[:, 1:]
    norm.weight.fill_(float(patches.std(-1, unbiased=False).mean()))
    norm.bias.fill_(float(patches.mean()))
    own.class_embedding.copy_(other.class_embedding.flatten())
    own.position_embedding.weight.copy_(other.position_embedding[0])
    own.position_embedding.weight[1:] += other.patch_embedding.bias
    own.patch_embedding.weight.copy_(other.patch_embedding.weight)
    for layer, source in zip(clip.encoder.layers, vision.encoder.layers, strict=True):
        weights = source.self_attn.qkv.weight.chunk(3)
        biases = source.self_attn.qkv.bias.chunk(3)
        for name, weight, bias in zip("qkv", weights, biases, strict=True):
            projection = getattr(layer.self_attn, f"{name}_proj")
            projection.weight.copy_(weight)
            projection.bias.copy_(bias)
        _copy(layer.self_attn.out_proj, source.self_attn.projection)
        _copy_rest(layer, source)
    _copy(clip.post_layernorm, vision.post_layernorm)


def _normalized(values: Tensor, norm: Any, deviation: Tensor) -> Tensor:
    return (values - values.mean(-1, keepdim=True)) / deviation * norm.weight


def _copy_rest(layer: Any, source: Any) -> None:
    for name in ("layer_norm1", "layer_norm2", "mlp"):
        _copy(getattr(layer, name), getattr(source, name))


def _copy(module: Any, source: Any) -> None:
    module.load_state_dict(source.state_dict())
