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
from overpaint.jobs.training.sam_loss import sam_loss
from overpaint.jobs.training.saving import save_fp16
from overpaint.jobs.training.task import StepContext, TrainingConfig
from overpaint.operators.framing.masks import Region, bounding_box
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.sam import Point, Selection, select
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn
from transformers import SamConfig, SamImageProcessorPil, SamModel, SamProcessor

_IMAGE_PX = 64
_PATCH_PX = 4
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
        return sam_loss(self.sam, batch.images(), batch.masks())

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
