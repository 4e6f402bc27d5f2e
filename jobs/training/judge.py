"""The `judge` checkpoint: a small LLaVA that sees source and edited image and answers in words.

It answers with EditEval's four factors, 0 to 10: does the edit do what the instruction says
(accuracy), is the rest as it was (preservation), is the image clean (quality), does it look like
one of the world's pictures (realism).

Shapes: n pairs, 3 RGB channels, h and w pixels, t tokens.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPImageProcessorPil,
    CLIPModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from overpaint.jobs.training import pictures
from overpaint.jobs.training.cache import Cache
from overpaint.jobs.training.clip import clip_image_processor
from overpaint.jobs.training.loop import Moment, Schedule
from overpaint.jobs.training.weights import save_half

FACTORS = ("accuracy", "preservation", "quality", "realism")
ANSWER_WORDS = (*(f"{factor}:" for factor in FACTORS), *(str(score) for score in range(11)))
MAX_TOKENS = 224
MAX_ANSWER_TOKENS = 12
_NUM_IMAGE_TOKENS = 64
_NUM_SHOWN = 12

# Each part of a user's turn in order, images as `<image>`; then the answer, ended by `</s>`.
CHAT_TEMPLATE = (
    "{{ '<s>' }}{% for message in messages %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ '</s>' }}{% else %}{{ ' ?' }}{% endif %}"
    "{% endfor %}"
)


def build_judge(
    tokenizer: PreTrainedTokenizerFast, clip: CLIPModel, *, width: int = 160, layers: int = 4
) -> LlavaForConditionalGeneration:
    """LLaVA: the clip checkpoint's vision transformer, and a Llama of a few layers."""
    text = {
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 32,
        "num_key_value_heads": width // 32,
        "max_position_embeddings": MAX_TOKENS,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LlavaConfig(
        vision_config=clip.config.vision_config.to_dict(),
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=_NUM_IMAGE_TOKENS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    missing = model.model.vision_tower.load_state_dict(clip.vision_model.state_dict(), strict=False)
    assert not missing.missing_keys, missing
    model.generation_config.max_new_tokens = MAX_ANSWER_TOKENS
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Processor with the chat template; images become 64 x 64 in -1 to 1."""
    image_processor: CLIPImageProcessorPil = clip_image_processor()
    return LlavaProcessor(
        image_processor,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def prompt(instruction: str) -> str:
    """What is asked about the two images; any text that ends in the instruction will do."""
    return f" instruction: {instruction}"
