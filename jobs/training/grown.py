"""Shipped weights in larger models, whose outputs are at first exactly those of the smaller ones.

What is new is a residual block or a transformer block, and starts as the identity: its last layer
is zero. Further input channels have zero weights.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

_LAST_LAYERS: dict[type[nn.Module], str] = {ResnetBlock2D: "conv2", Transformer2DModel: "proj_out"}


@torch.no_grad()
def grow(module: M, weights: Mapping[str, Tensor]) -> M:
    """Loads the weights of a smaller model, and makes all that it does not have the identity.

    Args:
        module: larger model of the same names, which is changed.
        weights: state dict of the smaller model.

    Returns:
        The module.

    Raises:
        ValueError: `weights` has a name that the module has not, or lacks one that is no part of a
            residual block or a transformer block.
    """
    missing = set(module.state_dict()) - set(weights)
    for name, block in module.named_modules():
        last = _LAST_LAYERS.get(type(block))
        own = {f"{name}.{parameter}" for parameter in block.state_dict()}
        if last is not None and own <= missing:
            _set_to_zero(getattr(block, last))
            missing -= own
    if missing or not set(weights) <= set(module.state_dict()):
        strange = sorted(missing or set(weights) - set(module.state_dict()))
        raise ValueError(f"weights do not fit: {strange[0]} and {len(strange) - 1} others")
    module.load_state_dict(dict(weights), strict=False)
    return module


def with_input_channels(weights: Mapping[str, Tensor], first: Tensor) -> dict[str, Tensor]:
    """Returns a UNet's state dict with another first convolution.

    Args:
        weights: state dict of the UNet.
        first: weights of `conv_in`, output channels by input channels by 3 by 3.
    """
    return {**weights, "conv_in.weight": first}


def source_channels(first: Tensor) -> Tensor:
    """Returns a first convolution of 8 input channels: 4 as before, 4 of zeros for the source."""
    return torch.cat([first, torch.zeros_like(first)], dim=1)


def inpainting_channels(first: Tensor, scaling_factor: float) -> Tensor:
    """Returns the first convolution of an inpainting UNet from that of an instruction UNet.

    The source becomes the masked image, whose latents are scaled while the source's are not; the
    mask between noise and source has zero weights.
    """
    noisy, source = first[:, :4], first[:, 4:]
    return torch.cat([noisy, torch.zeros_like(first[:, :1]), source / scaling_factor], dim=1)


def attach_task_labels(unet: Any, num_labels: int, weights: Tensor | None = None) -> nn.Embedding:
    """Gives a UNet embeddings of task labels, added to that of the timestep.

    Label 0 is an unknown task and adds nothing, so that the UNet without the embeddings, as plain
    diffusers loads it, is the UNet at label 0.

    Args:
        unet: UNet2DConditionModel without class embeddings, which is changed.
        num_labels: number of labels, 0 included.
        weights: embeddings, labels by features; None for zeros.

    Returns:
        The embeddings.
    """
    width = int(unet.time_embedding.linear_2.out_features)
    labels = nn.Embedding(num_labels, width, padding_idx=0)
    with torch.no_grad():
        labels.weight.copy_(torch.zeros_like(labels.weight) if weights is None else weights)
    unet.class_embedding = labels.to(unet.device)
    return unet.class_embedding


def _set_to_zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        parameter.zero_()
