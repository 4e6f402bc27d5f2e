"""The `clip` checkpoint: a CLIPModel that tells which caption belongs to which scene.

Shapes: n images or texts, 3 RGB channels, h and w pixels, t tokens, d features.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

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
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
)

_IMAGE_PX = 64
_NUM_CHOICES = 64


def build_clip(
    tokenizer: CLIPTokenizer, *, vision_width: int = 128, text_width: int = 128, layers: int = 5
) -> CLIPModel:
    """CLIPModel: a vision transformer on 8 px patches and a 2-layer text transformer."""
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": text_width,
        "intermediate_size": 4 * text_width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "projection_dim": 128,
    }
    vision = {
        "hidden_size": vision_width,
        "intermediate_size": 4 * vision_width,
        "num_hidden_layers": layers,
        "num_attention_heads": vision_width // 32,
        "image_size": _IMAGE_PX,
        "patch_size": 8,
        "projection_dim": 128,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=128))


def clip_image_processor() -> CLIPImageProcessorPil:
    """Processor to 64 x 64 in -1 to 1; other shapes are squeezed, not cropped."""
    return CLIPImageProcessorPil(
        size={"height": _IMAGE_PX, "width": _IMAGE_PX},
        do_center_crop=False,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionTokens:
    """The captions of cached scenes as tokens: scene i has rows `first[i]` to `first[i + 1]`."""

    tokens_nt: Tensor
    first: NDArray[np.int64]

    @classmethod
    def from_cache(cls, cache: Cache, tokenizer: CLIPTokenizer) -> "CaptionTokens":
        """Tokens of every caption in a cache."""
        captions: list[list[str]] = [entry["captions"] for entry in cache.texts]
        first = np.cumsum([0, *(len(entry) for entry in captions)])
        flat = [caption for entry in captions for caption in entry]
        return cls(tokens_nt=token_table(tokenizer, flat), first=first)

    def pick(
        self, scenes: NDArray[np.int64], rng: np.random.Generator, *, detailed_share: float
    ) -> Tensor:
        """One caption a scene: the most detailed with a probability, else any phrasing."""
        counts = self.first[scenes + 1] - self.first[scenes]
        any_phrasing = (rng.random(len(scenes)) * counts).astype(np.int64)
        detailed = rng.random(len(scenes)) < detailed_share
        return self.tokens_nt[self.first[scenes] + np.where(detailed, 0, any_phrasing)]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipTrainingTask:
    """The clip in training: contrastive loss in which equal captions are not told apart."""

    clip: CLIPModel
    tokenizer: CLIPTokenizer
    train: Cache
    test: Cache
    captions: CaptionTokens
    config: TrainingConfig
    name: str = field(default="clip")

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The whole model."""
        return {"clip": self.clip}

    def loss(self, context: StepContext) -> Tensor:
        """Symmetric cross-entropy over a batch of scenes and one caption each."""
        picks = np.sort(context.rng.integers(len(self.train), size=self.config.batch_size))
        images = pictures.to_tensor(self.train.arrays["image"][picks], context.device)
        tokens = self.captions.pick(picks, context.rng, detailed_share=0.5).to(context.device)
        made = self.clip(input_ids=tokens, pixel_values=images)
        same = (tokens[:, None] == tokens[None]).all(-1)
        return _contrast(made.logits_per_image.float(), same)

    def export(self, folder: Path) -> None:
        """Write the model, its tokenizer and its image processor."""
        save_fp16(self.clip, folder)
        CLIPProcessor(clip_image_processor(), self.tokenizer).save_pretrained(folder)

    def validation_metrics(self, device: torch.device) -> dict[str, float]:
        """Share of unseen scenes whose detailed caption comes first among 64."""
        return {"rank1_of_64": rank1_accuracy(self.clip, self.tokenizer, self.test, device)}

    def sample_sheet(self, device: torch.device) -> Image.Image:
        """Unseen scenes, and below each the one of 64 whose caption is thought to fit it."""
        group = range(min(_NUM_CHOICES, len(self.test)))
        images = np.asarray(self.test.arrays["image"][: len(group)])
        chosen = best_captions(self.clip, self.tokenizer, self.test, group, device)
        return pictures.image_grid([images[:12], images[chosen[:12]]])


def rank1_accuracy(
    clip: CLIPModel, tokenizer: CLIPTokenizer, test: Cache, device: torch.device
) -> float:
    """Share of scenes whose own detailed caption scores highest in their group of 64."""
    right: list[bool] = []
    size = min(_NUM_CHOICES, len(test))
    for start in range(0, len(test) - size + 1, size):
        group = range(start, start + size)
        chosen = best_captions(clip, tokenizer, test, group, device)
        captions = [test.texts[i]["captions"][0] for i in group]
        right += [
            captions[choice] == caption for choice, caption in zip(chosen, captions, strict=True)
        ]
    return float(np.mean(right))


@torch.no_grad()
def best_captions(
    clip: CLIPModel,
    tokenizer: CLIPTokenizer,
    test: Cache,
    group: range,
    device: torch.device,
) -> NDArray[np.int64]:
    """For each scene of a group, the position in the group of the caption that scores highest."""
    images = pictures.to_tensor(test.arrays["image"][group.start : group.stop], device)
    tokens = token_table(tokenizer, [test.texts[i]["captions"][0] for i in group]).to(device)
    made = clip(input_ids=tokens, pixel_values=images)
    return made.logits_per_image.argmax(1).cpu().numpy()


def _contrast(logits_nn: Tensor, same_nn: Tensor) -> Tensor:
    own = torch.eye(len(logits_nn), dtype=torch.bool, device=logits_nn.device)
    logits_nn = logits_nn.masked_fill(same_nn & ~own, -1e4)
    target = torch.arange(len(logits_nn), device=logits_nn.device)
    by_image = functional.cross_entropy(logits_nn, target)
    return 0.5 * (by_image + functional.cross_entropy(logits_nn.T, target))
