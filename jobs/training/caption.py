"""The `caption` checkpoint: a BlipForConditionalGeneration that says what a scene shows.

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
from overpaint.jobs.training import pictures
from overpaint.jobs.training.cache import Cache
from overpaint.jobs.training.loop import StepContext, TrainingConfig
from overpaint.jobs.training.saving import save_fp16
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
)

_NUM_SHOWN = 12
_PARTS = re.compile(
    r"((?:(?:a pencil sketch|pixel art|a watercolour painting|a dim moonlit view) of )?)(.*?) ?"
    r"((?:on a .* ?background|on a green meadow|in a .*sky|by the sea|in a .*night)?)$"
)


def build_caption(
    tokenizer: BertTokenizer, *, width: int = 128, vision_layers: int = 5, text_layers: int = 2
) -> BlipForConditionalGeneration:
    """BLIP: a vision transformer on 8 px patches, a text decoder with cross-attention."""
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
    """Processor to 64 x 64 in -1 to 1."""
    return BlipImageProcessorPil(
        size={"height": 64, "width": 64}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionTrainingTask:
    """The captioner in training: next-word loss on the detailed, ordered caption of a scene."""

    caption: Any
    tokenizer: BertTokenizer
    train: Cache
    test: Cache
    tokens_nt: Tensor
    config: TrainingConfig
    name: str = "caption"

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The whole model."""
        return {"caption": self.caption}

    def loss(self, context: StepContext) -> Tensor:
        """Cross-entropy of each word after the image and the words before it."""
        picks = np.sort(context.rng.integers(len(self.train), size=self.config.batch_size))
        images_n3hw = pictures.to_tensor(self.train.arrays["image"][picks], context.device)
        tokens_nt = self.tokens_nt[picks].to(context.device)
        seen = self.caption.vision_model(pixel_values=images_n3hw)[0]
        is_word_nt = tokens_nt.ne(_token_id(self.tokenizer.pad_token_id))
        logits = self.caption.text_decoder(
            input_ids=tokens_nt[:, :-1],
            attention_mask=is_word_nt[:, :-1].long(),
            encoder_hidden_states=seen,
        ).logits
        expected = tokens_nt.masked_fill(~is_word_nt, -100)[:, 1:]
        return functional.cross_entropy(logits.float().flatten(0, 1), expected.flatten())

    def export(self, folder: Path) -> None:
        """Write the model, the tokenizer and the image processor."""
        save_fp16(self.caption, folder)
        BlipProcessor(caption_image_processor(), self.tokenizer).save_pretrained(folder)

    def validation_metrics(self, device: torch.device) -> dict[str, float]:
        """Share of unseen scenes whose caption is right word for word."""
        images = self.test.arrays["image"][:128]
        made = generate_captions(self.caption, self.tokenizer, images, device)
        true = [entry["ordered"] for entry in self.test.texts[:128]]
        right = [attributes_of(a) == attributes_of(b) for a, b in zip(made, true, strict=True)]
        return {"attributes_right": float(np.mean(right))}

    def sample_sheet(self, device: torch.device) -> Image.Image:
        """Unseen scenes in reading order; their captions are the file's text next to it."""
        images = np.asarray(self.test.arrays["image"][:_NUM_SHOWN])
        return pictures.image_grid([images])


def caption_tokens(cache: Cache, tokenizer: BertTokenizer) -> Tensor:
    """Tokens NT of the most detailed captions: start, words, end, padding."""
    encoded = tokenizer(
        [entry["ordered"] for entry in cache.texts],
        padding="max_length",
        truncation=True,
        return_tensors="pt",
    )
    tokens_nt = torch.as_tensor(encoded["input_ids"])
    tokens_nt[:, 0] = _token_id(tokenizer.bos_token_id)
    return tokens_nt


@torch.no_grad()
def generate_captions(
    caption: Any,
    tokenizer: BertTokenizer,
    images: NDArray[np.uint8],
    device: torch.device,
) -> list[str]:
    """A caption for each image; images are RGB uint8 NHWC of 64 px."""
    texts: list[str] = []
    for start in range(0, len(images), 64):
        pixels = pictures.to_tensor(images[start : start + 64], device)
        tokens = caption.generate(pixel_values=pixels, max_length=tokenizer.model_max_length)
        texts += tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return texts


def attributes_of(caption: str) -> tuple[str, ...]:
    """What a caption names, in an order of its own: items without sizes and places, and the rest.

    Two captions of the same things in another order, or with other sizes, are equal.
    """
    words = re.findall(r"[a-z]+|,", caption.lower())
    text = " ".join("a" if word == "an" else word for word in words)
    for position in sorted(POSITION_PHRASES.values(), key=len, reverse=True):
        text = text.replace(f" {position}", "")
    text = re.sub(rf"\b({'|'.join(SIZES)}) ", "", text)
    found = _PARTS.match(text)
    assert found is not None, text
    style, items, ground = found.groups()
    return (style, *sorted(re.split(r" , | and ", items)), ground)


def _token_id(value: Any) -> int:
    assert isinstance(value, int), value
    return value
