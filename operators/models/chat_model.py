"""Asking an image-text-to-text model of transformers about some pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from overpaint.operators.models import device
from overpaint.operators.models import pretrained as loading
from overpaint.pipeline.errors import RowError
from PIL import Image


@dataclass(frozen=True, slots=True)
class ChatModel:
    """A loaded image-text-to-text model."""

    processor: Any
    model: Any


@dataclass(frozen=True, slots=True)
class Question:
    """Pictures, RGB, in order, and what is asked about them."""

    pictures: tuple[Image.Image, ...]
    text: str


def load(checkpoint: str, part: str, revision: str | None, dtype: device.DtypeName) -> ChatModel:
    """Loads any checkpoint that AutoModelForImageTextToText knows and that has a chat template."""
    from transformers import AutoModelForImageTextToText

    return ChatModel(
        loading.load_processor(checkpoint, part, revision),
        loading.load_model(AutoModelForImageTextToText, checkpoint, part, revision, dtype),
    )


def ask(
    chat: ChatModel,
    questions: Sequence[Question],
    max_new_tokens: int,
    max_prompt_tokens: int | None,
) -> list[str]:
    """The model's answers, chosen greedily.

    Args:
        chat: what `load` returned.
        questions: pictures of one size, so that each question has as many tokens for them.
        max_new_tokens: where an answer is cut off.
        max_prompt_tokens: the length to which every question is padded, pictures included; null
            pads to the longest of the call.

    Raises:
        RowError: `judge_prompt_too_long`.
    """
    import torch

    model: Any = chat.model
    inputs = _tokens(chat, questions, max_prompt_tokens)
    with torch.inference_mode():
        found = model.generate(
            **inputs.to(model.device, model.dtype),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
        )
    answers = found[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in chat.processor.batch_decode(answers, skip_special_tokens=True)]


def _tokens(chat: ChatModel, questions: Sequence[Question], max_prompt_tokens: int | None) -> Any:
    if max_prompt_tokens is None:
        return _tokenized(chat, questions, padding="longest")
    try:
        inputs = _tokenized(chat, questions, padding="max_length", max_length=max_prompt_tokens)
        longest = inputs["input_ids"].shape[1]
    except ValueError:
        # Prompts of several lengths, some beyond the limit, do not fit one tensor.
        inputs = _tokenized(chat, questions, padding="longest")
        longest = inputs["input_ids"].shape[1]
        if longest <= max_prompt_tokens:
            raise
    if longest > max_prompt_tokens:
        raise RowError(
            "judge_prompt_too_long",
            f"the prompt has {longest} tokens, more than max_prompt_tokens = {max_prompt_tokens}",
        )
    return inputs


def _tokenized(chat: ChatModel, questions: Sequence[Question], **padding: Any) -> Any:
    control = _control_tokens(chat.processor)
    turns = [[{"role": "user", "content": _content(question, control)}] for question in questions]
    return chat.processor.apply_chat_template(
        turns,
        tokenize=True,
        return_dict=True,
        add_generation_prompt=True,
        processor_kwargs={"padding_side": "left", "return_tensors": "pt", **padding},
    )


def _content(question: Question, control: Sequence[str]) -> list[dict[str, Any]]:
    pictures = [{"type": "image", "image": picture} for picture in question.pictures]
    return [*pictures, {"type": "text", "text": _plain(question.text, control)}]


def _control_tokens(processor: Any) -> list[str]:
    tokenizer = processor.tokenizer
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    known = {*tokenizer.all_special_tokens, *added, getattr(processor, "image_token", None)}
    return sorted(str(token) for token in known if token and len(str(token)) > 1)


def _plain(text: str, control: Sequence[str]) -> str:
    """What a row says stays text, also where it looks like a control token of the model.

    transformers' own `sanitize_control_tokens` fails for processors that count picture tokens.
    """
    for token in control:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
