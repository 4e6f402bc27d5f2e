"""The `clipseg` checkpoint: a CLIPSegForImageSegmentation that finds a named object.

It starts from the clip checkpoint; a phrase that names nothing in the scene means an empty mask.
Shapes: n images and phrases, 3 RGB channels, h and w pixels, t tokens.
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
from overpaint.jobs.training.loop import StepContext, TrainingConfig
from overpaint.jobs.training.saving import save_fp16
from overpaint.jobs.training.vocabulary import token_table
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
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
    """CLIPSeg around a clip, its decoder as deep as the clip's vision transformer."""
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
    _start_decoder(model)
    return model


@torch.no_grad()
def _start_decoder(model: Any) -> None:
    """Give the decoder torch's first weights, and let the text begin by changing little.

    transformers 5.23 finds no `initializer_range` in a CLIPSegConfig and draws the decoder's
    weights with a standard deviation of 1: what is seen is then 40 times larger than what the text
    adds, and the decoder finds every object alike, whatever is asked for.
    """
    for module in model.decoder.modules():
        if isinstance(module, nn.Linear | nn.ConvTranspose2d):
            module.reset_parameters()
    model.clip.text_projection.weight.mul_(_TEXT_SCALE)
    model.clip.visual_projection.weight.mul_(_TEXT_SCALE)
    model.decoder.film_mul.bias.fill_(1.0)


def clipseg_image_processor() -> ViTImageProcessorPil:
    """Processor to 64 x 64 in -1 to 1."""
    return ViTImageProcessorPil(
        size={"height": 64, "width": 64}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipsegTrainingTask:
    """The clipseg in training: cross-entropy and Dice loss on the masks of named objects.

    `train` and `test` hold `image`, `mask` (uint8, 0 or 255) and the `phrases` for it.
    """

    clipseg: Any
    tokenizer: CLIPTokenizer
    train: Cache
    test: Cache
    phrases: Tensor
    config: TrainingConfig
    name: str = "clipseg"

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The whole model, the clip inside it included."""
        return {"clipseg": self.clipseg}

    def loss(self, context: StepContext) -> Tensor:
        """Loss on a batch of scenes, with one of the phrases of each mask."""
        picks = np.sort(context.rng.integers(len(self.train), size=self.config.batch_size))
        images_n3hw = pictures.to_tensor(self.train.arrays["image"][picks], context.device)
        masks = torch.from_numpy(self.train.arrays["mask"][picks] > 127).to(context.device).float()
        choices = context.rng.integers(self.phrases.shape[1], size=len(picks))
        tokens = self.phrases[picks, choices].to(context.device)
        return _mask_loss(self._logits(images_n3hw, tokens).float().reshape_as(masks), masks)

    def _logits(self, images_n3hw: Tensor, tokens_nt: Tensor) -> Tensor:
        """The model's own forward pass, but without its no_grad around the clip.

        A clip that only ever told captions apart keeps too little of where edges are.
        """
        clip = self.clipseg.clip
        seen = clip.vision_model(pixel_values=images_n3hw, output_hidden_states=True)
        named = clip.get_text_features(tokens_nt).pooler_output
        layers = [seen.hidden_states[i + 1] for i in self.clipseg.config.extract_layers]
        return self.clipseg.decoder(layers, named).logits

    def export(self, folder: Path) -> None:
        """Write the model, the tokenizer and the image processor."""
        save_fp16(self.clipseg, folder)
        CLIPSegProcessor(clipseg_image_processor(), self.tokenizer).save_pretrained(folder)

    def validation_metrics(self, device: torch.device) -> dict[str, float]:
        """Mean IoU on unseen scenes."""
        masks = self.test.arrays["mask"][:256] > 127
        return {"iou": float(iou(masks, self.predict(256, device)).mean())}

    def sample_sheet(self, device: torch.device) -> Image.Image:
        """Unseen scenes, the true masks and the masks found."""
        images = np.asarray(self.test.arrays["image"][:_NUM_SHOWN])
        masks = self.test.arrays["mask"][:_NUM_SHOWN] > 127
        found = self.predict(_NUM_SHOWN, device)
        return pictures.image_grid([images, mask_images(masks), mask_images(found)])

    @torch.no_grad()
    def predict(self, num_scenes: int, device: torch.device) -> NDArray[np.bool_]:
        """Masks, bool NHW, of the first unseen scenes by their first phrase."""
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
    """Masks, bool NHW, of one phrase an image; images are RGB uint8 NHWC of 64 px."""
    found: list[NDArray[np.bool_]] = []
    for start in range(0, len(texts), 64):
        part = slice(start, start + 64)
        tokens = token_table(tokenizer, texts[part]).to(device)
        pixels = pictures.to_tensor(images[part], device)
        logits = clipseg(input_ids=tokens, pixel_values=pixels).logits
        found.append((logits.reshape(-1, *pixels.shape[2:]) > 0).cpu().numpy())
    return np.concatenate(found)


def iou(expected: NDArray[np.bool_], found: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Intersection over union of each mask; 1 where both are empty."""
    both = (expected & found).sum(axis=(1, 2))
    either = (expected | found).sum(axis=(1, 2))
    return np.where(either == 0, 1.0, both / np.maximum(either, 1))


def phrase_tokens(cache: Cache, tokenizer: CLIPTokenizer, *, num_phrases: int = 8) -> Tensor:
    """Tokens of `num_phrases` phrases a mask, by mask and phrase; short lists are repeated."""
    phrases = [
        entry["phrases"][i % len(entry["phrases"])]
        for entry in cache.texts
        for i in range(num_phrases)
    ]
    return token_table(tokenizer, phrases).reshape(len(cache), num_phrases, -1)


def _mask_loss(logits_nhw: Tensor, masks_nhw: Tensor) -> Tensor:
    cross_entropy = functional.binary_cross_entropy_with_logits(logits_nhw, masks_nhw)
    found_nhw = logits_nhw.sigmoid()
    both = (found_nhw * masks_nhw).sum(dim=(1, 2))
    sizes = found_nhw.sum(dim=(1, 2)) + masks_nhw.sum(dim=(1, 2))
    dice = 1.0 - (2.0 * both + 1.0) / (sizes + 1.0)
    return cross_entropy + 0.5 * dice.mean()


def mask_images(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Masks, bool NHW, as black and white images, RGB uint8 NHWC."""
    return np.repeat(masks[..., None].astype(np.uint8) * 255, 3, axis=3)
