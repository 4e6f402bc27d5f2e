"""Checkpoint `sam`: a SamModel that segments the item that a box or points select.

Shapes: n images, 3 RGB channels, h and w pixels, k mask proposals.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from overpaint.jobs.training import pictures
from overpaint.jobs.training.cache import Cache
from overpaint.jobs.training.clipseg import iou, mask_images
from overpaint.jobs.training.saving import save_fp16
from overpaint.jobs.training.task import StepContext, TrainingConfig
from overpaint.operators.framing.masks import Region, bounding_box
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.sam import Point, Selection, select
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional
from transformers import SamConfig, SamImageProcessorPil, SamModel, SamProcessor

_IMAGE_PX = 64
_PATCH_PX = 4
# Loss weight of each kind of prompt: number of points, 0 for a box.
_PROMPT_WEIGHTS = {0: 0.4, 1: 0.4, 3: 0.2}
_BOX_JITTER_PX = 2.0
_NUM_SHOWN = 12


def build_sam(*, width: int = 96, layers: int = 4, decoder_width: int = 96) -> SamModel:
    """Builds a SAM with a vision transformer of 4 px patches: its masks have the image's size."""
    vision = {
        "hidden_size": width,
        "output_channels": decoder_width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 32,
        "image_size": _IMAGE_PX,
        "patch_size": _PATCH_PX,
        "window_size": 8,
        "global_attn_indexes": list(range(1, layers, 2)),
        "num_pos_feats": decoder_width // 2,
        # The default, 1e-10, is meant for weights that are loaded afterwards.
        "initializer_range": 0.02,
    }
    prompt = {"hidden_size": decoder_width, "image_size": _IMAGE_PX, "patch_size": _PATCH_PX}
    decoder = {
        "hidden_size": decoder_width,
        "mlp_dim": 2 * decoder_width,
        "num_attention_heads": 4,
        "iou_head_hidden_dim": decoder_width,
    }
    sam = SamModel(
        SamConfig(
            vision_config=vision,
            prompt_encoder_config=prompt | {"mask_input_channels": 4},
            mask_decoder_config=decoder,
        )
    )
    # transformers draws these frequencies `width / 2` times too high for neighbours to be alike.
    frequencies: Any = sam.shared_image_embedding.positional_embedding
    nn.init.normal_(frequencies.requires_grad_(False))
    return sam


def build_sam_processor() -> SamProcessor:
    """Builds the processor: 64 x 64, -1 to 1; other shapes are scaled to fit and padded."""
    side = {"height": _IMAGE_PX, "width": _IMAGE_PX}
    pixels = SamImageProcessorPil(
        size={"longest_edge": _IMAGE_PX},
        pad_size=side,
        mask_size={"longest_edge": _IMAGE_PX},
        mask_pad_size=side,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return SamProcessor(pixels)


@dataclass(frozen=True, kw_only=True, slots=True)
class SamTrainingTask:
    """Training of sam: each image is encoded once and prompted with a box, a point and points.

    Encoding takes six times as long as decoding a mask. Of the three proposals for a single point
    only the best one learns its mask, as in the paper (arXiv 2304.02643).

    Attributes:
        sam: model to train.
        train: training scenes with `image` and `mask` (uint8, 0 or 255).
        test: test scenes with `image` and `mask`.
        nonempty: indices of the training masks that are not empty.
        config: hyperparameters.
        name: name of the checkpoint.
    """

    sam: Any
    train: Cache
    test: Cache
    nonempty: NDArray[np.int64]
    config: TrainingConfig
    name: str = "sam"

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Whole model."""
        return {"sam": self.sam}

    def loss(self, context: StepContext) -> Tensor:
        """Returns the mask and IoU loss on a batch of scenes, over all kinds of prompts."""
        batch = context.sample_batch(self.train, self.config.batch_size, candidates=self.nonempty)
        embeddings = self.sam.vision_encoder(batch.images()).last_hidden_state
        losses = [
            weight * self._prompt_loss(embeddings, batch.masks(), num_points, context)
            for num_points, weight in _PROMPT_WEIGHTS.items()
        ]
        return torch.stack(losses).sum()

    def _prompt_loss(
        self, embeddings: Tensor, masks: NDArray[np.bool_], num_points: int, context: StepContext
    ) -> Tensor:
        """Returns the loss of one kind of prompt: that many points, or a box for 0."""
        prompts = _points(masks, num_points, context.rng) if num_points else _boxes(masks, context)
        output = self.sam(
            image_embeddings=embeddings,
            multimask_output=num_points == 1,
            **{name: prompt.to(context.device) for name, prompt in prompts.items()},
        )
        true_n1hw = torch.from_numpy(masks).to(context.device).float()[:, None]
        logits_nkhw = output.pred_masks[:, 0].float()
        mask_losses_nk = _mask_losses(logits_nkhw, true_n1hw)
        iou_loss = functional.mse_loss(
            output.iou_scores[:, 0].float(), _ious(logits_nkhw, true_n1hw)
        )
        return mask_losses_nk.min(dim=1).values.mean() + 0.2 * iou_loss

    def export(self, folder: Path) -> None:
        """Writes the model and its processor."""
        save_fp16(self.sam, folder)
        build_sam_processor().save_pretrained(folder)

    def validation_metrics(self, device: torch.device) -> dict[str, float]:
        """Returns the mean IoU on some test scenes, from a box and from a point."""
        masks = self.test.arrays["mask"][:128] > 127
        images = self.test.arrays["image"][:128]
        sam = Pretrained(build_sam_processor(), self.sam)
        return {
            "iou_box": float(iou(masks, segment(sam, images, box_prompts(masks))).mean()),
            "iou_point": float(iou(masks, segment(sam, images, point_prompts(masks))).mean()),
        }

    def sample_sheet(self, device: torch.device) -> Image.Image:
        """Draws test scenes, their true masks, and those from a box and from a point."""
        images = np.asarray(self.test.arrays["image"][:_NUM_SHOWN])
        masks = self.test.arrays["mask"][:_NUM_SHOWN] > 127
        sam = Pretrained(build_sam_processor(), self.sam)
        prompts = (box_prompts(masks), point_prompts(masks))
        predicted = [segment(sam, images, selections) for selections in prompts]
        return pictures.image_grid([images, *(mask_images(rows) for rows in (masks, *predicted))])


def segment(
    sam: Pretrained, images: NDArray[np.uint8], selections: list[Selection]
) -> NDArray[np.bool_]:
    """Segments images (RGB uint8 NHWC) as the `mask` operator does; returns masks, bool NHW."""
    masks: list[Region] = []
    for start in range(0, len(selections), 32):
        batch = slice(start, start + 32)
        opened = [Image.fromarray(np.asarray(image)) for image in images[batch]]
        masks += select(sam, opened, selections[batch], threshold=0.5)
    return np.stack(masks)


def box_prompts(masks: NDArray[np.bool_]) -> list[Selection]:
    """Returns the bounding box of each mask, bool NHW, as a prompt."""
    return [Selection(bounding_box(mask)) for mask in masks]


def point_prompts(masks: NDArray[np.bool_]) -> list[Selection]:
    """Returns the point of each mask, bool NHW, that is farthest from its edge, as a prompt."""
    return [Selection(None, (_innermost(mask),)) for mask in masks]


def nonempty_masks(cache: Cache) -> NDArray[np.int64]:
    """Returns the indices of the masks of a cache that are not empty."""
    return np.flatnonzero(cache.arrays["mask"].any(axis=(1, 2)))


def _innermost(mask: NDArray[np.bool_]) -> Point:
    depth: Any = ndimage.distance_transform_edt(np.pad(mask, 1))
    y, x = np.unravel_index(int(depth[1:-1, 1:-1].argmax()), mask.shape)
    return Point(float(x), float(y))


def _boxes(masks: NDArray[np.bool_], context: StepContext) -> dict[str, Tensor]:
    """Returns the bounding boxes of masks, half of them jittered by up to 2 px a side."""
    boxes = np.array([bounding_box(mask) for mask in masks], np.float64)
    boxes += context.rng.uniform(-_BOX_JITTER_PX, _BOX_JITTER_PX, boxes.shape) * (
        context.rng.random((len(boxes), 1)) < 0.5
    )
    return {"input_boxes": torch.from_numpy(boxes.clip(0, _IMAGE_PX)).float()[:, None]}


def _points(
    masks: NDArray[np.bool_], num_points: int, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Draws points inside the masks; those after the first are outside with probability 1/2."""
    points = np.zeros((len(masks), 1, num_points, 2), np.float32)
    labels = np.ones((len(masks), 1, num_points), np.int64)
    for i, mask in enumerate(masks):
        for j in range(num_points):
            is_inside = j == 0 or bool(mask.all()) or rng.random() < 0.5
            rows, columns = np.nonzero(mask == is_inside)
            choice = int(rng.integers(len(rows)))
            points[i, 0, j] = columns[choice], rows[choice]
            labels[i, 0, j] = int(is_inside)
    return {"input_points": torch.from_numpy(points), "input_labels": torch.from_numpy(labels)}


def _mask_losses(logits_nkhw: Tensor, true_n1hw: Tensor) -> Tensor:
    true_nkhw = true_n1hw.expand_as(logits_nkhw)
    cross_entropy_nk = functional.binary_cross_entropy_with_logits(
        logits_nkhw, true_nkhw, reduction="none"
    ).mean(dim=(2, 3))
    predicted_nkhw = logits_nkhw.sigmoid()
    intersection = (predicted_nkhw * true_nkhw).sum(dim=(2, 3))
    sizes = predicted_nkhw.sum(dim=(2, 3)) + true_nkhw.sum(dim=(2, 3))
    return cross_entropy_nk + 0.5 * (1.0 - (2.0 * intersection + 1.0) / (sizes + 1.0))


@torch.no_grad()
def _ious(logits_nkhw: Tensor, true_n1hw: Tensor) -> Tensor:
    predicted, true = logits_nkhw > 0, true_n1hw > 0.5
    intersection = (predicted & true).sum(dim=(2, 3)).float()
    return intersection / (predicted | true).sum(dim=(2, 3)).clamp(min=1)
