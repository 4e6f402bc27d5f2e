"""Loss of sam: each image is encoded once and prompted with a box, a point and three points.

Encoding takes six times as long as decoding a mask. Of the three proposals for a single point only
the best one learns its mask, as in the paper (arXiv 2304.02643).

Shapes: n images, 3 RGB channels, h and w pixels, k mask proposals, p points.
"""

from typing import Any

import torch
from overpaint.jobs.training.losses import mask_losses
from torch import Tensor

# Loss weight of each kind of prompt: number of points, 0 for a box.
PROMPT_WEIGHTS = {0: 0.4, 1: 0.4, 3: 0.2}
BOX_JITTER_PX = 2.0
_IOU_WEIGHT = 0.2


def sam_loss(sam: Any, images_n3hw: Tensor, masks_nhw: Tensor) -> Tensor:
    """Returns the mask and IoU loss of the masks, 0 or 1; those that are empty count nothing."""
    embeddings = sam.vision_encoder(images_n3hw).last_hidden_state
    counts_n = masks_nhw.flatten(1).any(dim=1).float()
    losses = [
        weight * (_prompt_losses(sam, embeddings, masks_nhw, points) * counts_n).sum()
        for points, weight in PROMPT_WEIGHTS.items()
    ]
    return torch.stack(losses).sum() / counts_n.sum().clamp(min=1.0)


def _prompt_losses(sam: Any, embeddings: Tensor, masks_nhw: Tensor, num_points: int) -> Tensor:
    """Returns each mask's loss with one kind of prompt: that many points, or a box for 0."""
    prompts = (
        point_prompts(masks_nhw, num_points)
        if num_points
        else {"input_boxes": jittered_boxes(masks_nhw)[:, None].to(sam.dtype)}
    )
    output = sam(image_embeddings=embeddings, multimask_output=num_points == 1, **prompts)
    logits_nkhw, true_n1hw = output.pred_masks[:, 0].float(), masks_nhw[:, None]
    error_nk = (output.iou_scores[:, 0].float() - _ious(logits_nkhw, true_n1hw)) ** 2
    best_n = mask_losses(logits_nkhw, true_n1hw).min(dim=1).values
    return best_n + _IOU_WEIGHT * error_nk.mean(dim=1)


def bounding_boxes(masks_nhw: Tensor) -> Tensor:
    """Returns left, top, right and bottom (one past the last) of the masks, N4; all for empty."""
    sides: list[Tensor] = []
    for is_set in (masks_nhw.bool().any(dim=1), masks_nhw.bool().any(dim=2)):
        first = is_set.float().argmax(dim=1)
        last = is_set.shape[1] - is_set.flip(1).float().argmax(dim=1)
        sides += [first, last]
    left, right, top, bottom = sides
    return torch.stack([left, top, right, bottom], dim=1).float()


def jittered_boxes(masks_nhw: Tensor) -> Tensor:
    """Returns the bounding boxes N4, half of them jittered by up to 2 px a side."""
    boxes = bounding_boxes(masks_nhw)
    jitter = (2.0 * torch.rand_like(boxes) - 1.0) * BOX_JITTER_PX
    is_jittered = torch.rand(len(boxes), 1, device=boxes.device) < 0.5
    return (boxes + jitter * is_jittered).clamp(0.0, float(masks_nhw.shape[-1]))


def point_prompts(masks_nhw: Tensor, num_points: int) -> dict[str, Tensor]:
    """Draws points in the masks; those after the first lie outside with probability 1/2."""
    size, width = len(masks_nhw), masks_nhw.shape[-1]
    inside = masks_nhw.flatten(1)[:, None].expand(-1, num_points, -1)
    is_first = torch.arange(num_points, device=masks_nhw.device) == 0
    wants_inside = is_first | (torch.rand(size, num_points, device=masks_nhw.device) < 0.5)
    is_inside = wants_inside | masks_nhw.flatten(1).all(dim=1, keepdim=True)
    allowed = torch.where(is_inside[..., None], inside, 1.0 - inside)
    chosen = (torch.rand_like(allowed) * allowed).argmax(dim=2)
    points = torch.stack([chosen % width, chosen // width], dim=-1).float()
    return {"input_points": points[:, None], "input_labels": is_inside.long()[:, None]}


@torch.no_grad()
def _ious(logits_nkhw: Tensor, true_n1hw: Tensor) -> Tensor:
    predicted, true = logits_nkhw > 0, true_n1hw > 0.5
    intersection = (predicted & true).sum(dim=(2, 3)).float()
    return intersection / (predicted | true).sum(dim=(2, 3)).clamp(min=1)
