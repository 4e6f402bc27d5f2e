"""Initial weights of the judge: caption's vision transformer, and heads that compare two images.

In the language model's first layer most heads attend from each patch of the edited image to the
same patch of the source, and subtract its features, so that training begins with the difference.
RoPE turns this into a constant distance: a query that is rotated back by as many positions as an
image has patches agrees best with the key of that patch.

Shapes: n images, 3 RGB channels, h and w pixels.
"""

from typing import Any

import torch
from overpaint.jobs.training.vision_transfer import copy_blip_to_clip
from torch import Tensor

# This feature is constant over all image tokens: it marks a token as an image's.
_MARK = 0
_MARK_SIZE = 6.0
# Only the highest frequencies of RoPE separate neighbours; low ones would favour large features.
_NUM_FREQUENCIES = 4
_SHARPNESS = 10.0


@torch.no_grad()
def initialise_judge(judge: Any, caption: Any, images_n3hw: Tensor, *, num_heads: int = 3) -> None:
    """Initialises a LLaVA with a captioner's vision transformer and heads that compare two images.

    Args:
        judge: LlavaForConditionalGeneration with a vision transformer of the captioner's shape,
            which is changed.
        caption: BlipForConditionalGeneration.
        images_n3hw: images that set the scale of the features that the language model sees.
        num_heads: number of heads of the first layer that compare.
    """
    copy_blip_to_clip(judge.model.vision_tower, caption.vision_model, images_n3hw)
    _scale_projector(judge.model, images_n3hw)
    attention = judge.model.language_model.layers[0].self_attn
    distance = int(judge.config.image_seq_length)
    for head in range(num_heads):
        _set_comparing_head(attention, head, distance)


def _scale_projector(model: Any, images_n3hw: Tensor) -> None:
    """Scales the projector's features to about 1, and sets the mark of image tokens."""
    projector = model.multi_modal_projector
    for linear in (projector.linear_1, projector.linear_2):
        linear.weight.normal_(std=linear.in_features**-0.5)
        linear.bias.zero_()
    features = model.vision_tower(images_n3hw).last_hidden_state[:, 1:]
    projector.linear_1.weight.div_(features.std())
    projector.linear_2.weight.div_(projector(features).std())
    projector.linear_2.bias.copy_(-projector(features).mean(dim=(0, 1)))
    projector.linear_2.weight[_MARK] = 0.0
    projector.linear_2.bias[_MARK] = _MARK_SIZE


def _set_comparing_head(attention: Any, head: int, distance: int) -> None:
    """Sets a head to attend `distance` tokens back wherever the mark is, and to subtract."""
    size = attention.head_dim
    rows = slice(head * size, (head + 1) * size)
    half = size // 2
    frequencies = 10_000.0 ** (-torch.arange(half) / half)
    fast = (torch.arange(half) < _NUM_FREQUENCIES).float()
    # The mark is about as large as this once the features are normalized.
    length = (_SHARPNESS * size**0.5) ** 0.5 / (0.75 * attention.q_proj.in_features**0.5)
    attention.q_proj.weight[rows] = 0.0
    attention.k_proj.weight[rows] = 0.0
    angles = distance * frequencies
    rotated = torch.cat([fast * torch.cos(angles), -fast * torch.sin(angles)])
    attention.q_proj.weight[rows, _MARK] = length * rotated
    attention.k_proj.weight[rows, _MARK] = length * torch.cat([fast, torch.zeros(half)])
    attention.v_proj.weight[rows] = torch.eye(attention.v_proj.in_features)[rows]
    attention.o_proj.weight[:, rows] = -torch.eye(attention.o_proj.out_features)[:, rows]
    attention.o_proj.weight[_MARK, rows] = 0.0
