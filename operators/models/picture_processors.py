"""Processors of text encoders that see pictures, without those of videos.

A processor of the Qwen family also has one for videos, which needs torchvision and which no editor
uses. Pictures go through the Pillow form, as everywhere: it is always there, and the digits of a
row do not depend on what else is installed.
"""

from collections.abc import Mapping
from typing import Any

from overpaint.operators.models.tokenizing import one_call_at_a_time
from overpaint.operators.models.weights import Checkpoint

_WITH_VIDEOS = ("Qwen2VLProcessor", "Qwen2_5_VLProcessor", "Qwen3VLProcessor")
_TOKENS = {
    "image": "<|image_pad|>",
    "video": "<|video_pad|>",
    "vision_start": "<|vision_start|>",
    "vision_end": "<|vision_end|>",
}
"""Tokens that a processor knows, where its tokenizer has no others."""


def picture_processors(checkpoint: Checkpoint, index: Mapping[str, Any]) -> dict[str, Any]:
    """Loads the processors of a pipeline that have a part for videos, without that part.

    Args:
        checkpoint: weights of the pipeline.
        index: its `model_index.json`.

    Returns:
        Processors by the names of the pipeline's parts.
    """
    parts = {
        name: part[1]
        for name, part in index.items()
        if isinstance(part, list | tuple) and len(part) == 2 and part[1] in _WITH_VIDEOS
    }
    return {name: _load(checkpoint, name, kind) for name, kind in parts.items()}


def _load(checkpoint: Checkpoint, folder: str, kind: str) -> Any:
    from transformers import AutoImageProcessor, AutoTokenizer

    options = {**checkpoint.source_options(), "subfolder": folder}
    images: Any = AutoImageProcessor.from_pretrained(checkpoint.path, backend="pil", **options)
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint.path, **options)
    return without_videos(kind, images, one_call_at_a_time(tokenizer))


def without_videos(kind: str, image_processor: Any, tokenizer: Any) -> Any:
    """Returns a processor of pictures and texts.

    Args:
        kind: class of transformers that it is of, but for videos.
        image_processor: of the Pillow form.
        tokenizer: knows the tokens of pictures and videos.
    """
    import transformers
    from transformers.processing_utils import ProcessorMixin

    base: Any = getattr(transformers, kind)

    def init(self: Any, image_processor: Any = None, tokenizer: Any = None, **kwargs: Any) -> None:
        for name, token in _TOKENS.items():
            word = getattr(tokenizer, f"{name}_token", token)
            setattr(self, f"{name}_token", word)
            setattr(self, f"{name}_token_id", tokenizer.convert_tokens_to_ids(word))
        ProcessorMixin.__init__(self, image_processor, tokenizer, **kwargs)

    # Of the same name: transformers and diffusers write and compare names of classes.
    pictures: Any = type(base.__name__, (base,), {"__init__": init, "__module__": base.__module__})
    template = getattr(tokenizer, "chat_template", None)
    return pictures(image_processor, tokenizer, chat_template=template)
