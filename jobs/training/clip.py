"""Checkpoint `clip`: a CLIPModel that scores how well a caption fits a scene.

Shapes: n images or texts, 3 RGB channels, h and w pixels, t tokens, d features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
    """Builds a CLIPModel with a vision transformer of 8 px patches and a 2-layer text encoder."""
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
    """Builds the image processor: 64 x 64, -1 to 1; other shapes are resized, not cropped."""
    return CLIPImageProcessorPil(
        size={"height": _IMAGE_PX, "width": _IMAGE_PX},
        do_center_crop=False,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionTokens:
    """Captions of cached scenes as token ids.

    Attributes:
        tokens_nt: token ids of all captions of all scenes, int16.
        first: row of each scene's first caption; scene i has rows `first[i]` to `first[i + 1]`.
    """

    tokens_nt: Tensor
    first: NDArray[np.int64]

    @classmethod
    def from_cache(cls, cache: Cache, tokenizer: CLIPTokenizer) -> "CaptionTokens":
        """Tokenizes every caption in a cache."""
        captions: list[list[str]] = [entry["captions"] for entry in cache.texts]
        first = np.cumsum([0, *(len(entry) for entry in captions)])
        flat = [caption for entry in captions for caption in entry]
        table = word_ids_of(tokenizer).clip_table(flat, len(flat))
        return cls(tokens_nt=torch.from_numpy(table), first=first)

    def sample(
        self, scenes: NDArray[np.int64], rng: np.random.Generator, *, detailed_share: float
    ) -> Tensor:
        """Draws one caption a scene: with a probability the most detailed, else any caption."""
        counts = self.first[scenes + 1] - self.first[scenes]
        any_caption = (rng.random(len(scenes)) * counts).astype(np.int64)
        is_detailed = rng.random(len(scenes)) < detailed_share
        return self.tokens_nt[self.first[scenes] + np.where(is_detailed, 0, any_caption)].long()


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipTrainingTask:
    """Training of clip: contrastive loss in which equal captions are no negatives of each other.

    Attributes:
        clip: model to train.
        tokenizer: tokenizer of the captions.
        train: training scenes with `image`.
        test: test scenes with `image` and their captions.
        captions: captions of the training scenes.
        config: hyperparameters.
        name: name of the checkpoint.
    """

    clip: CLIPModel
    tokenizer: CLIPTokenizer
    train: Cache
    test: Cache
    captions: CaptionTokens
    config: TrainingConfig
    name: str = "clip"

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Whole model."""
        return {"clip": self.clip}

    def loss(self, context: StepContext) -> Tensor:
        """Returns the symmetric cross-entropy (InfoNCE) over scenes and one caption each."""
        batch = context.sample_batch(self.train, self.config.batch_size)
        tokens = self.captions.sample(batch.indices, context.rng, detailed_share=0.5)
        return losses.clip_loss(self.clip, batch.images(), tokens.to(context.device))

    def export(self, folder: Path) -> None:
        """Writes the model, its tokenizer and its image processor."""
        save_fp16(self.clip, folder)
        CLIPProcessor(clip_image_processor(), self.tokenizer).save_pretrained(folder)

    def validation_metrics(self, device: torch.device) -> dict[str, float]:
        """Returns the fraction of test scenes whose detailed caption ranks first among 64."""
        return {"rank1_of_64": rank1_accuracy(self.clip, self.tokenizer, self.test, device)}

    def sample_sheet(self, device: torch.device) -> Image.Image:
        """Draws test scenes, and below each the one of 64 whose caption scores highest for it."""
        group = range(min(_NUM_CHOICES, len(self.test)))
        images = np.asarray(self.test.arrays["image"][: len(group)])
        best = best_captions(self.clip, self.tokenizer, self.test, group, device)
        return pictures.image_grid([images[:12], images[best[:12]]])


def rank1_accuracy(
    clip: CLIPModel, tokenizer: CLIPTokenizer, test: Cache, device: torch.device
) -> float:
    """Returns the fraction of scenes whose own caption scores highest in their group of 64."""
    is_first: list[bool] = []
    size = min(_NUM_CHOICES, len(test))
    for start in range(0, len(test) - size + 1, size):
        group = range(start, start + size)
        best = best_captions(clip, tokenizer, test, group, device)
        captions = [test.texts[i]["captions"][0] for i in group]
        is_first += [captions[i] == caption for i, caption in zip(best, captions, strict=True)]
    return float(np.mean(is_first))


@torch.no_grad()
def best_captions(
    clip: CLIPModel,
    tokenizer: CLIPTokenizer,
    test: Cache,
    group: range,
    device: torch.device,
) -> NDArray[np.int64]:
    """Returns the position in a group of the highest-scoring caption of each of its scenes."""
    images = pictures.to_tensor(test.arrays["image"][group.start : group.stop], device)
    tokens = token_table(tokenizer, [test.texts[i]["captions"][0] for i in group]).to(device)
    output = clip(input_ids=tokens, pixel_values=images)
    return output.logits_per_image.argmax(1).cpu().numpy()
