"""CLIP: images and texts as directions in one space.

As in InstructPix2Pix's measures an image is squeezed to a square, bicubic, and not cropped.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from overpaint.operators.models import tokenizing
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.tokenizing import TextLength
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.errors import RowError
from PIL import Image

PART = "clip"

Embedding = np.ndarray[Any, np.dtype[np.float64]]
"""float64 D, of length 1."""

Attention = np.ndarray[Any, np.dtype[np.float32]]
"""float32 HW of patches: attention to each."""

_NO_DIRECTION = 1e-6


def load(checkpoint: Checkpoint) -> Pretrained:
    """Loads a CLIPModel checkpoint."""
    from transformers import CLIPModel

    return Pretrained.load(CLIPModel, checkpoint)


def embed_images(clip: Pretrained, images: Sequence[Image.Image]) -> list[Embedding]:
    """Returns the embedding of each RGB image; it may be not finite."""
    import torch

    model: Any = clip.model
    squares = [square(clip, image) for image in images]
    pixels = clip.processor.image_processor(
        images=squares, do_resize=False, do_center_crop=False, return_tensors="pt"
    )["pixel_values"]
    with torch.inference_mode():
        output = model.get_image_features(pixel_values=pixels.to(model.device, model.dtype))
    return _directions(output.pooler_output)


def attention(clip: Pretrained, images: Sequence[Image.Image]) -> list[Attention]:
    """Returns the attention of each RGB image's class token to its patches, in the last layer.

    Args:
        clip: loaded model, with attention that is computed in full (`eager`).
        images: images.
    """
    import torch

    model: Any = clip.model
    pixels = clip.processor.image_processor(
        images=[square(clip, image) for image in images],
        do_resize=False,
        do_center_crop=False,
        return_tensors="pt",
    )["pixel_values"]
    with torch.inference_mode():
        output = model.vision_model(
            pixel_values=pixels.to(model.device, model.dtype), output_attentions=True
        )
    of_class = output.attentions[-1].float().mean(dim=1)[:, 0, 1:]
    side = round(of_class.shape[1] ** 0.5)
    return list(of_class.unflatten(1, (side, side)).cpu().numpy())


def square(clip: Pretrained, image: Image.Image) -> Image.Image:
    """Squeezes an image to the square that the model sees."""
    side_px: int = clip.model.config.vision_config.image_size
    return image.resize((side_px, side_px), Image.Resampling.BICUBIC)


def text_length(clip: Pretrained, text: str) -> TextLength:
    """Returns the length of a text beside what the model sees of it."""
    return tokenizing.text_length(clip.processor.tokenizer, text)


def embed_texts(clip: Pretrained, texts: Sequence[str]) -> list[Embedding]:
    """Returns the embedding of each text, cut at the model's longest; it may be not finite."""
    import torch

    model: Any = clip.model
    # Padded to the longest that the model takes: neighbours with more words must change nothing.
    tokens = clip.processor.tokenizer(
        list(texts), padding="max_length", truncation=True, return_tensors="pt"
    ).to(model.device)
    with torch.inference_mode():
        output = model.get_text_features(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        )
    return _directions(output.pooler_output)


def check_finite(embeddings: Iterable[Embedding]) -> None:
    """Checks that embeddings hold numbers.

    Raises:
        RowError: `clip_not_finite`.
    """
    if not all(np.isfinite(embedding).all() for embedding in embeddings):
        raise RowError("clip_not_finite", "CLIP's embedding holds no numbers: try dtype float32")


def similarity(one: Embedding, other: Embedding) -> float | None:
    """Returns the cosine between two vectors; None where one of them has no direction."""
    lengths = float(np.linalg.norm(one)), float(np.linalg.norm(other))
    if min(lengths) < _NO_DIRECTION:
        return None
    return float(one @ other) / (lengths[0] * lengths[1])


def _directions(features: Any) -> list[Embedding]:
    vectors = features.float().cpu().numpy().astype(np.float64)
    with np.errstate(invalid="ignore"):
        return list(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
