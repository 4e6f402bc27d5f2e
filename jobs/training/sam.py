"""The `sam` checkpoint: a SamModel that cuts out what a box or points select.

Shapes: n images, 3 RGB channels, h and w pixels, k proposals, p points.
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
from overpaint.jobs.training.loop import StepContext, TrainingConfig
from overpaint.jobs.training.saving import save_fp16
from overpaint.operators.framing.masks import Region, bounding_box
from overpaint.operators.models.sam import Point, Sam, Selection, select
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional
from transformers import SamConfig, SamImageProcessorPil, SamModel, SamProcessor

_IMAGE_PX = 64
_PATCH_PX = 4
# Ways to select by number of points, 0 for a box, and their shares of the loss.
_WAYS = {0: 0.4, 1: 0.4, 3: 0.2}
_MOST_SHIFT_PX = 2.0
_NUM_SHOWN = 12


def build_sam(*, width: int = 96, layers: int = 4, decoder_width: int = 96) -> SamModel:
    """SAM: a vision transformer on 4 px patches, so that its masks have the image's size."""
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
        # The default, 1e-10, is for weights that are loaded over it.
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
    places: Any = sam.shared_image_embedding.positional_embedding
    nn.init.normal_(places.requires_grad_(False))
    return sam


def build_sam_processor() -> SamProcessor:
    """Processor to 64 x 64 in -1 to 1; other shapes are scaled to fit and padded."""
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
    """The sam in training: each image is encoded once, its item selected by box, point and points.

    Encoding takes six times as long as finding a mask. Of the three proposals for a single point
    only the best one learns its mask, as in the paper.
    `train` and `test` hold `image` and `mask` (uint8, 0 or 255); `usable` says which training
    masks are not empty.
    """

    sam: Any
    train: Cache
    test: Cache
    nonempty: NDArray[np.int64]
    config: TrainingConfig
    name: str = "sam"

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The whole model."""
        return {"sam": self.sam}

    def loss(self, context: StepContext) -> Tensor:
        """Mask and quality loss on a batch of scenes, over the ways to select an item."""
        picks = np.sort(context.rng.choice(self.nonempty, size=self.config.batch_size))
        images_n3hw = pictures.to_tensor(self.train.arrays["image"][picks], context.device)
        masks = self.train.arrays["mask"][picks] > 127
        seen = self.sam.vision_encoder(images_n3hw).last_hidden_state
        losses = [
            share * self._wrongness(seen, masks, num_points, context)
            for num_points, share in _WAYS.items()
        ]
        return torch.stack(losses).sum()

    def _wrongness(
        self, seen: Tensor, masks: NDArray[np.bool_], num_points: int, context: StepContext
    ) -> Tensor:
        """Loss of one way to select: that many points, or a box for 0."""
        prompts = _points(masks, num_points, context.rng) if num_points else _boxes(masks, context)
        found = self.sam(
            image_embeddings=seen,
            multimask_output=num_points == 1,
            **{name: prompt.to(context.device) for name, prompt in prompts.items()},
        )
        true_n1hw = torch.from_numpy(masks).to(context.device).float()[:, None]
        logits_nkhw = found.pred_masks[:, 0].float()
        wrong_nk = _mask_losses(logits_nkhw, true_n1hw)
        surest_nk = functional.mse_loss(
            found.iou_scores[:, 0].float(), _overlaps(logits_nkhw, true_n1hw)
        )
        return wrong_nk.min(dim=1).values.mean() + 0.2 * surest_nk

    def export(self, folder: Path) -> None:
        """Write the model and its processor."""
        save_fp16(self.sam, folder)
        build_sam_processor().save_pretrained(folder)

    def validation_metrics(self, device: torch.device) -> dict[str, float]:
        """Mean IoU of some unseen scenes, from a box and from a point."""
        masks = self.test.arrays["mask"][:128] > 127
        images = self.test.arrays["image"][:128]
        sam = Sam(build_sam_processor(), self.sam)
        return {
            "iou_box": float(iou(masks, segment(sam, images, box_prompts(masks))).mean()),
            "iou_point": float(iou(masks, segment(sam, images, point_prompts(masks))).mean()),
        }

    def sample_sheet(self, device: torch.device) -> Image.Image:
        """Unseen scenes, the true masks, those from a box, and those from a point."""
        images = np.asarray(self.test.arrays["image"][:_NUM_SHOWN])
        masks = self.test.arrays["mask"][:_NUM_SHOWN] > 127
        sam = Sam(build_sam_processor(), self.sam)
        found = [segment(sam, images, way(masks)) for way in (box_prompts, point_prompts)]
        return pictures.image_grid([images, *(mask_images(rows) for rows in (masks, *found))])


def segment(sam: Sam, images: NDArray[np.uint8], selections: list[Selection]) -> NDArray[np.bool_]:
    """Masks, bool NHW, as the `mask` operator finds them; images are RGB uint8 NHWC."""
    found: list[Region] = []
    for start in range(0, len(selections), 32):
        part = slice(start, start + 32)
        shown = [Image.fromarray(np.asarray(image)) for image in images[part]]
        found += select(sam, shown, selections[part], threshold=0.5)
    return np.stack(found)


def box_prompts(masks: NDArray[np.bool_]) -> list[Selection]:
    """The box around each mask, bool NHW."""
    return [Selection(bounding_box(mask)) for mask in masks]


def point_prompts(masks: NDArray[np.bool_]) -> list[Selection]:
    """One point in each mask, bool NHW: the one farthest from its edge."""
    return [Selection(None, (_innermost(mask),)) for mask in masks]


def nonempty_masks(cache: Cache) -> NDArray[np.int64]:
    """Which masks of a cache are not empty."""
    return np.flatnonzero(cache.arrays["mask"].any(axis=(1, 2)))


def _innermost(mask: NDArray[np.bool_]) -> Point:
    depth: Any = ndimage.distance_transform_edt(np.pad(mask, 1))
    y, x = np.unravel_index(int(depth[1:-1, 1:-1].argmax()), mask.shape)
    return Point(float(x), float(y))


def _boxes(masks: NDArray[np.bool_], context: StepContext) -> dict[str, Tensor]:
    """Boxes around masks, their sides shifted by up to 2 px."""
    boxes = np.array([bounding_box(mask) for mask in masks], np.float64)
    boxes += context.rng.uniform(-_MOST_SHIFT_PX, _MOST_SHIFT_PX, boxes.shape) * (
        context.rng.random((len(boxes), 1)) < 0.5
    )
    return {"input_boxes": torch.from_numpy(boxes.clip(0, _IMAGE_PX)).float()[:, None]}


def _points(
    masks: NDArray[np.bool_], num_points: int, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Points in the masks; of several, all after the first are inside or outside by chance."""
    places = np.zeros((len(masks), 1, num_points, 2), np.float32)
    labels = np.ones((len(masks), 1, num_points), np.int64)
    for i, mask in enumerate(masks):
        for j in range(num_points):
            is_inside = j == 0 or bool(mask.all()) or rng.random() < 0.5
            rows, columns = np.nonzero(mask == is_inside)
            pick = int(rng.integers(len(rows)))
            places[i, 0, j] = columns[pick], rows[pick]
            labels[i, 0, j] = int(is_inside)
    return {"input_points": torch.from_numpy(places), "input_labels": torch.from_numpy(labels)}


def _mask_losses(logits_nkhw: Tensor, true_n1hw: Tensor) -> Tensor:
    true_nkhw = true_n1hw.expand_as(logits_nkhw)
    cross_entropy_nk = functional.binary_cross_entropy_with_logits(
        logits_nkhw, true_nkhw, reduction="none"
    ).mean(dim=(2, 3))
    found_nkhw = logits_nkhw.sigmoid()
    both = (found_nkhw * true_nkhw).sum(dim=(2, 3))
    sizes = found_nkhw.sum(dim=(2, 3)) + true_nkhw.sum(dim=(2, 3))
    return cross_entropy_nk + 0.5 * (1.0 - (2.0 * both + 1.0) / (sizes + 1.0))


@torch.no_grad()
def _overlaps(logits_nkhw: Tensor, true_n1hw: Tensor) -> Tensor:
    found, true = logits_nkhw > 0, true_n1hw > 0.5
    both = (found & true).sum(dim=(2, 3)).float()
    return both / (found | true).sum(dim=(2, 3)).clamp(min=1)
