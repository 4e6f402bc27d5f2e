"""Checkpoint `clipseg`: a CLIPSegForImageSegmentation that segments a named object.

Its weights start from the clip checkpoint; a phrase for an absent object means an empty mask.
Shapes: n images, p phrases an image, 3 RGB channels, h and w pixels, t tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from overpaint.jobs.training import losses, pictures
from overpaint.jobs.training.cache import Cache
from overpaint.jobs.training.saving import save_fp16
from overpaint.jobs.training.task import StepContext, TrainingConfig
from overpaint.jobs.training.vocabulary import token_table
from overpaint.jobs.training.word_ids import word_ids_of
from PIL import Image
from torch import Tensor, nn
from transformers import (
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPSegProcessor,
    CLIPTokenizer,
    ViTImageProcessorPil,
)

_NUM_SHOWN = 12
_TEXT_SCALE = 0.15


def build_clipseg(clip: Any, *, width: int = 128) -> CLIPSegForImageSegmentation:
    """Builds a CLIPSeg around a clip, its decoder as deep as the clip's vision transformer."""
    layers = clip.config.vision_config.num_hidden_layers
    config = CLIPSegConfig(
        text_config=clip.config.text_config.to_dict(),
        vision_config=clip.config.vision_config.to_dict(),
        projection_dim=clip.config.projection_dim,
        extract_layers=list(range(1, layers)),
        reduce_dim=width,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=2 * width,
        conditional_layer=0,
    )
    model = CLIPSegForImageSegmentation(config)
    model.clip.load_state_dict(clip.state_dict())
    _initialise_decoder(model)
    return model


@torch.no_grad()
def _initialise_decoder(model: Any) -> None:
    """Initialises the decoder with PyTorch's defaults, and scales the text's influence down.

    transformers 5.23 has no `initializer_range` in CLIPSegConfig and draws the decoder's weights
    with a standard deviation of 1: image features are then 40 times larger than the text's
    modulation, and the decoder returns the same mask for every phrase.
    """
    for module in model.decoder.modules():
        if isinstance(module, nn.Linear | nn.ConvTranspose2d):
            module.reset_parameters()
    model.clip.text_projection.weight.mul_(_TEXT_SCALE)
    model.clip.visual_projection.weight.mul_(_TEXT_SCALE)
    model.decoder.film_mul.bias.fill_(1.0)


def clipseg_image_processor() -> ViTImageProcessorPil:
    """Builds the image processor: 64 x 64, -1 to 1."""
    return ViTImageProcessorPil(
        size={"height": 64, "width": 64}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipsegTrainingTask:
    """Training of clipseg: cross-entropy and Dice loss on the masks of named objects.

    Attributes:
        clipseg: model to train.
        tokenizer: tokenizer of the phrases.
        train: training scenes with `image` and `mask` (uint8, 0 or 255).
        test: test scenes with `image`, `mask` and the `phrases` for it.
        phrases_npt: token ids of p phrases for each training mask, int16.
        config: hyperparameters.
        name: name of the checkpoint.
    """

    clipseg: Any
    tokenizer: CLIPTokenizer
    train: Cache
    test: Cache
    phrases_npt: Tensor
    config: TrainingConfig
    name: str = "clipseg"

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Whole model, the clip inside it included."""
        return {"clipseg": self.clipseg}

    def loss(self, context: StepContext) -> Tensor:
        """Returns the loss on a batch of scenes, with one of the phrases of each mask."""
        batch = context.sample_batch(self.train, self.config.batch_size)
        choices = context.rng.integers(self.phrases_npt.shape[1], size=len(batch.indices))
        tokens_nt = self.phrases_npt[batch.indices, choices].long().to(context.device)
        return losses.clipseg_loss(self.clipseg, batch.images(), tokens_nt, batch.masks())

    def export(self, folder: Path) -> None:
        """Writes the model, its tokenizer and its image processor."""
        save_fp16(self.clipseg, folder)
        CLIPSegProcessor(clipseg_image_processor(), self.tokenizer).save_pretrained(folder)

    def validation_metrics(self, device: torch.device) -> dict[str, float]:
        """Returns the mean IoU on test scenes."""
        masks = self.test.arrays["mask"][:256] > 127
        return {"iou": float(iou(masks, self.predict(256, device)).mean())}

    def sample_sheet(self, device: torch.device) -> Image.Image:
        """Draws test scenes, their true masks and their predicted masks."""
        images = np.asarray(self.test.arrays["image"][:_NUM_SHOWN])
        masks = self.test.arrays["mask"][:_NUM_SHOWN] > 127
        predicted = self.predict(_NUM_SHOWN, device)
        return pictures.image_grid([images, mask_images(masks), mask_images(predicted)])

    @torch.no_grad()
    def predict(self, num_scenes: int, device: torch.device) -> NDArray[np.bool_]:
        """Predicts masks, bool NHW, of the first test scenes by their first phrase."""
        texts = [entry["phrases"][0] for entry in self.test.texts[:num_scenes]]
        images = self.test.arrays["image"][:num_scenes]
        return predict_masks(self.clipseg, self.tokenizer, images, texts, device)


@torch.no_grad()
def predict_masks(
    clipseg: Any,
    tokenizer: CLIPTokenizer,
    images: NDArray[np.uint8],
    texts: list[str],
    device: torch.device,
) -> NDArray[np.bool_]:
    """Predicts masks, bool NHW, of one phrase an image; images are RGB uint8 NHWC of 64 px."""
    masks: list[NDArray[np.bool_]] = []
    for start in range(0, len(texts), 64):
        batch = slice(start, start + 64)
        tokens = token_table(tokenizer, texts[batch]).to(device)
        pixels = pictures.to_tensor(images[batch], device)
        logits = clipseg(input_ids=tokens, pixel_values=pixels).logits
        masks.append((logits.reshape(-1, *pixels.shape[2:]) > 0).cpu().numpy())
    return np.concatenate(masks)


def iou(true: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns the intersection over union of each mask, bool NHW; 1 where both are empty."""
    intersection = (true & predicted).sum(axis=(1, 2))
    union = (true | predicted).sum(axis=(1, 2))
    return np.where(union == 0, 1.0, intersection / np.maximum(union, 1))


def phrase_tokens(cache: Cache, tokenizer: CLIPTokenizer, *, num_phrases: int = 8) -> Tensor:
    """Tokenizes `num_phrases` phrases a mask, int16 NPT; shorter lists of phrases are repeated."""
    ids = word_ids_of(tokenizer)
    tables = [ids.clip_table(entry["phrases"], num_phrases) for entry in cache.texts]
    return torch.from_numpy(np.stack(tables))


def mask_images(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Converts masks, bool NHW, to black and white images, RGB uint8 NHWC."""
    return np.repeat(masks[..., None].astype(np.uint8) * 255, 3, axis=3)
