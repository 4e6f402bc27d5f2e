"""CLIPSeg: the probability that each place of an image shows what a phrase names."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from overpaint.operators.framing.masks import Heat
from overpaint.operators.models import tokenizing
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.tokenizing import TextLength
from overpaint.operators.models.weights import Checkpoint
from PIL import Image

PART = "clipseg"


def load(checkpoint: Checkpoint) -> Pretrained:
    """Loads a CLIPSegForImageSegmentation checkpoint."""
    from transformers import CLIPSegForImageSegmentation

    return Pretrained.load(CLIPSegForImageSegmentation, checkpoint)


def text_length(clipseg: Pretrained, phrase: str) -> TextLength:
    """Returns the length of a phrase beside what the model sees of it."""
    return tokenizing.text_length(clipseg.processor.tokenizer, phrase)


def find(clipseg: Pretrained, images: Sequence[Image.Image], phrases: Sequence[str]) -> list[Heat]:
    """Returns the heat of each phrase in its image, which is squeezed to the model's square."""
    import torch

    model: Any = clipseg.model
    # Padded to the longest that the model takes: neighbours with more words must change nothing.
    text = clipseg.processor.tokenizer(
        list(phrases), padding="max_length", truncation=True, return_tensors="pt"
    )
    pixels = clipseg.processor.image_processor(images=list(images), return_tensors="pt")
    with torch.inference_mode():
        logits = model(
            input_ids=text["input_ids"].to(model.device),
            attention_mask=text["attention_mask"].to(model.device),
            pixel_values=pixels["pixel_values"].to(model.device, model.dtype),
        ).logits
    height, width = pixels["pixel_values"].shape[-2:]
    heats = logits.float().sigmoid().reshape(len(images), height, width).cpu().numpy()
    return [np.ascontiguousarray(heat) for heat in heats]
