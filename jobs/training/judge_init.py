"""First weights of the judge: eyes that see objects, and a habit of comparing the two images.

The vision transformer is caption's. In the language model's first layer most heads look back from
each patch of the edited image to the same patch of the source, and subtract what they find, so that
training begins with what differs. RoPE makes that a matter of a constant distance: a query that is
turned back by as many places as an image has patches agrees best with the key of that patch.

Shapes: n images, 3 RGB channels, h and w pixels.
"""

from typing import Any

import torch
from overpaint.jobs.training.vision_transfer import copy_blip_to_clip
from torch import Tensor

# The first feature of every image token is the same and tells heads where images are.
_MARK = 0
_MARK_SIZE = 6.0
# Only the fastest turns of RoPE tell neighbours apart; slow ones would favour large features.
_NUM_TURNS = 4
_SHARPNESS = 10.0


@torch.no_grad()
def initialise_judge(judge: Any, caption: Any, images_n3hw: Tensor, *, num_heads: int = 3) -> None:
    """Give a LLaVA a captioner's vision transformer and heads that compare its two images.

    Args:
        judge: LlavaForConditionalGeneration with a vision transformer of the captioner's shape.
        caption: BlipForConditionalGeneration.
        images_n3hw: Images by which the size of what the language model sees is set.
        num_heads: Heads of the first layer that compare.
    """
    copy_blip_to_clip(judge.model.vision_tower, caption.vision_model, images_n3hw)
    _spread_projector(judge.model, images_n3hw)
    attention = judge.model.language_model.layers[0].self_attn
    distance = int(judge.config.image_seq_length)
    for head in range(num_heads):
        _compare(attention, head, distance)


def _spread_projector(model: Any, images_n3hw: Tensor) -> None:
    """Make the projector's features about 1 in size, and mark them as an image's."""
    projector = model.multi_modal_projector
    for linear in (projector.linear_1, projector.linear_2):
        linear.weight.normal_(std=linear.in_features**-0.5)
        linear.bias.zero_()
    seen = model.vision_tower(images_n3hw).last_hidden_state[:, 1:]
    projector.linear_1.weight.div_(seen.std())
    projector.linear_2.weight.div_(projector(seen).std())
    projector.linear_2.bias.copy_(-projector(seen).mean(dim=(0, 1)))
    projector.linear_2.weight[_MARK] = 0.0
    projector.linear_2.bias[_MARK] = _MARK_SIZE


def _compare(attention: Any, head: int, distance: int) -> None:
    """Make a head look `distance` tokens back wherever there is a mark, and subtract."""
    size = attention.head_dim
    rows = slice(head * size, (head + 1) * size)
    half = size // 2
    speeds = 10_000.0 ** (-torch.arange(half) / half)
    fast = (torch.arange(half) < _NUM_TURNS).float()
    # The mark is about as large as this once the features are normalized.
    length = (_SHARPNESS * size**0.5) ** 0.5 / (0.75 * attention.q_proj.in_features**0.5)
    attention.q_proj.weight[rows] = 0.0
    attention.k_proj.weight[rows] = 0.0
    turned = torch.cat([fast * torch.cos(distance * speeds), -fast * torch.sin(distance * speeds)])
    attention.q_proj.weight[rows, _MARK] = length * turned
    attention.k_proj.weight[rows, _MARK] = length * torch.cat([fast, torch.zeros(half)])
    attention.v_proj.weight[rows] = torch.eye(attention.v_proj.in_features)[rows]
    attention.o_proj.weight[:, rows] = -torch.eye(attention.o_proj.out_features)[:, rows]
    attention.o_proj.weight[_MARK, rows] = 0.0
