"""Checkpoint `caption`: a BlipForConditionalGeneration that captions a scene.

Shapes: n images or texts, 3 RGB channels, h and w pixels, t tokens.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from overpaint.jobs.papercut.scene import SIZES
from overpaint.jobs.papercut.words import POSITION_PHRASES
from overpaint.jobs.training import losses, pictures
from overpaint.jobs.training.cache import Cache
from overpaint.jobs.training.saving import save_fp16
from overpaint.jobs.training.task import StepContext, TrainingConfig
from overpaint.jobs.training.word_ids import word_ids_of
from PIL import Image
from torch import Tensor, nn
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
)

_NUM_SHOWN = 12
_CAPTION = re.compile(
    r"((?:(?:a pencil sketch|pixel art|a watercolour painting|a dim moonlit view) of )?)(.*?) ?"
    r"((?:on a .* ?background|on a green meadow|in a .*sky|by the sea|in a .*night)?)$"
)


def build_caption(
    tokenizer: BertTokenizer, *, width: int = 128, vision_layers: int = 5, text_layers: int = 2
) -> BlipForConditionalGeneration:
    """Builds a BLIP with a vision transformer of 8 px patches and a cross-attending decoder."""
    vision = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": vision_layers,
        "num_attention_heads": width // 32,
        "image_size": 64,
        "patch_size": 8,
        "hidden_act": "quick_gelu",
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "encoder_hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": text_layers,
        "num_attention_heads": width // 32,
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision))
    model.generation_config.max_length = tokenizer.model_max_length
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.sep_token_id
    return model


def caption_image_processor() -> BlipImageProcessorPil:
    """Builds the image processor: 64 x 64, -1 to 1."""
    return BlipImageProcessorPil(
        size={"height": 64, "width": 64}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionTrainingTask:
    """Training of the captioner: next-token loss on the detailed, ordered caption of a scene.

    Attributes:
        caption: model to train.
        tokenizer: tokenizer of the captions.
        train: training scenes with `image`.
        test: test scenes with `image` and the `ordered` caption.
        tokens_nt: token ids of the training captions, int16.
        config: hyperparameters.
        name: name of the checkpoint.
    """

    caption: Any
    tokenizer: BertTokenizer
    train: Cache
    test: Cache
    tokens_nt: Tensor
    config: TrainingConfig
    name: str = "caption"

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Whole model."""
        return {"caption": self.caption}

    def loss(self, context: StepContext) -> Tensor:
        """Returns the cross-entropy of each token, given the image and the tokens before it."""
        batch = context.sample_batch(self.train, self.config.batch_size)
        tokens_nt = self.tokens_nt[batch.indices].long().to(context.device)
        padding = _token_id(self.tokenizer.pad_token_id)
        return losses.caption_loss(self.caption, batch.images(), tokens_nt, padding)

    def export(self, folder: Path) -> None:
        """Writes the model, its tokenizer and its image processor."""
        save_fp16(self.caption, folder)
        BlipProcessor(caption_image_processor(), self.tokenizer).save_pretrained(folder)

    def validation_metrics(self, device: torch.device) -> dict[str, float]:
        """Returns the fraction of test scenes whose caption names the right attributes."""
        images = self.test.arrays["image"][:128]
        captions = generate_captions(self.caption, self.tokenizer, images, device)
        true = [entry["ordered"] for entry in self.test.texts[:128]]
        right = [attributes_of(a) == attributes_of(b) for a, b in zip(captions, true, strict=True)]
        return {"attributes_right": float(np.mean(right))}

    def sample_sheet(self, device: torch.device) -> Image.Image:
        """Draws test scenes."""
        images = np.asarray(self.test.arrays["image"][:_NUM_SHOWN])
        return pictures.image_grid([images])


def caption_tokens(cache: Cache, tokenizer: BertTokenizer) -> Tensor:
    """Tokenizes the ordered captions of a cache, int16 NT: start, words, end, padding."""
    ids = word_ids_of(tokenizer)
    return torch.from_numpy(np.stack([ids.caption(entry["ordered"]) for entry in cache.texts]))


@torch.no_grad()
def generate_captions(
    caption: Any,
    tokenizer: BertTokenizer,
    images: NDArray[np.uint8],
    device: torch.device,
) -> list[str]:
    """Generates a caption for each image; images are RGB uint8 NHWC of 64 px."""
    texts: list[str] = []
    for start in range(0, len(images), 64):
        pixels = pictures.to_tensor(images[start : start + 64], device)
        tokens = caption.generate(pixel_values=pixels, max_length=tokenizer.model_max_length)
        texts += tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return texts


def attributes_of(caption: str) -> tuple[str, ...]:
    """Returns the attributes that a caption names, in canonical order, without sizes and positions.

    The attributes of two captions are equal if they name the same items in any order.
    """
    words = re.findall(r"[a-z]+|,", caption.lower())
    text = " ".join("a" if word == "an" else word for word in words)
    for position in sorted(POSITION_PHRASES.values(), key=len, reverse=True):
        text = text.replace(f" {position}", "")
    text = re.sub(rf"\b({'|'.join(SIZES)}) ", "", text)
    match = _CAPTION.match(text)
    assert match is not None, text
    style, items, background = match.groups()
    return (style, *sorted(re.split(r" , | and ", items)), background)


def _token_id(value: Any) -> int:
    assert isinstance(value, int), value
    return value
