"""Questions to a chat model of transformers: one that sees pictures, or one of text alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from overpaint.operators.measures.told import TokenChoice, Told
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.row_sampling import word_noise
from overpaint.operators.models.tokenizing import one_call_at_a_time
from overpaint.operators.models.weights import Checkpoint
from PIL import Image


class PromptTooLongError(Exception):
    """Question with more tokens than the length to which questions are padded."""

    def __init__(self, num_tokens: int, max_prompt_tokens: int) -> None:
        super().__init__(
            f"the prompt has {num_tokens} tokens, more than max_prompt_tokens = {max_prompt_tokens}"
        )


@dataclass(frozen=True, slots=True)
class Question:
    """Pictures, RGB, in order, and a question about them."""

    pictures: tuple[Image.Image, ...]
    text: str


Tokens = Mapping[str, Any]
"""A tokenized question: a tensor by each name that the model takes, with one row."""


def load(checkpoint: Checkpoint) -> Pretrained:
    """Loads an AutoModelForImageTextToText checkpoint that has a chat template."""
    from transformers import AutoModelForImageTextToText

    return Pretrained.load(AutoModelForImageTextToText, checkpoint)


def load_of_text(checkpoint: Checkpoint) -> Pretrained:
    """Loads an AutoModelForCausalLM checkpoint with a chat template; it sees no pictures."""
    from transformers import AutoModelForCausalLM

    chat = Pretrained.load(AutoModelForCausalLM, checkpoint)
    one_call_at_a_time(chat.processor)
    return chat


def fitted(width_px: int, height_px: int, most_px: int) -> tuple[int, int]:
    """Returns the size of a picture whose longer side is scaled down to `most_px`."""
    scale = min(1.0, most_px / max(width_px, height_px))
    return max(1, round(width_px * scale)), max(1, round(height_px * scale))


def fit(picture: Image.Image, most_px: int) -> Image.Image:
    """Scales a picture down whose longer side is longer than `most_px`."""
    size = fitted(picture.width, picture.height, most_px)
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC)


def tokenize(chat: Pretrained, question: Question, max_prompt_tokens: int | None) -> Tokens:
    """Returns a question as the model takes it: tokens, and the pixels of its pictures.

    Args:
        chat: what `load` returned.
        question: pictures and text.
        max_prompt_tokens: length to which the question is padded, pictures included; None pads
            nothing.

    Raises:
        PromptTooLongError: the question is longer than that.
    """
    if max_prompt_tokens is None:
        return _tokenized(chat, question)
    tokens = _tokenized(chat, question, padding="max_length", max_length=max_prompt_tokens)
    num_tokens = tokens["input_ids"].shape[1]
    if num_tokens > max_prompt_tokens:
        raise PromptTooLongError(num_tokens, max_prompt_tokens)
    return tokens


class Sampling(NamedTuple):
    """Choice of words by chance.

    Attributes:
        seeds: seed of each question.
        temperature: divisor of the logits, above 0.
    """

    seeds: Sequence[int]
    temperature: float

    def options(self) -> dict[str, Any]:
        """Returns keywords of `generate`."""
        from transformers import LogitsProcessorList

        noise: Any = word_noise(self.seeds, self.temperature)
        return {"logits_processor": LogitsProcessorList([noise])}


def reply(
    chat: Pretrained,
    questions: Sequence[Tokens],
    max_new_tokens: int,
    sampling: Sampling | None = None,
) -> list[str]:
    """Returns the model's reply to each question.

    Args:
        chat: what `load` returned.
        questions: what `tokenize` returned, all of one length, with pictures of one size.
        max_new_tokens: length at which a reply is cut off.
        sampling: choice of words by chance; None chooses the likeliest.
    """
    options = sampling.options() if sampling else {}
    generated, num_asked = _generate(chat, questions, max_new_tokens, **options)
    return _texts(chat, generated[:, num_asked:])


def reply_with_tokens(
    chat: Pretrained,
    questions: Sequence[Tokens],
    max_new_tokens: int,
    sampling: Sampling | None = None,
    num_choices: int = 20,
) -> list[Told]:
    """Returns the replies that `reply` returns, with the likeliest tokens at each place.

    Args:
        chat: what `load` returned.
        questions: as for `reply`.
        max_new_tokens: length at which a reply is cut off.
        sampling: as for `reply`; the probabilities are those before chance.
        num_choices: tokens at each place whose probabilities are given.
    """
    import torch

    options: dict[str, Any] = {"return_dict_in_generate": True, "output_logits": True}
    options |= sampling.options() if sampling else {}
    generated, num_asked = _generate(chat, questions, max_new_tokens, **options)
    replies = generated.sequences[:, num_asked:]
    chances_tnv = torch.stack(generated.logits).float().softmax(-1)
    likeliest = chances_tnv.topk(min(num_choices, chances_tnv.shape[-1]), dim=-1)
    texts = _texts(chat, replies)
    return [
        Told(
            text, _choices(chat, replies[row], likeliest.indices[:, row], likeliest.values[:, row])
        )
        for row, text in enumerate(texts)
    ]


def _generate(
    chat: Pretrained, questions: Sequence[Tokens], max_new_tokens: int, **options: Any
) -> tuple[Any, int]:
    """Returns what the model generates, the likeliest token each, and the questions' length."""
    import torch
    from transformers import BatchFeature

    model: Any = chat.model
    batch: Any = BatchFeature(
        {name: torch.cat([tokens[name] for tokens in questions]) for name in questions[0]}
    )
    with torch.inference_mode():
        generated = model.generate(
            **batch.to(model.device, model.dtype),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            **options,
        )
    return generated, batch["input_ids"].shape[1]


def _texts(chat: Pretrained, replies: Any) -> list[str]:
    return [text.strip() for text in chat.processor.batch_decode(replies, skip_special_tokens=True)]


def _choices(chat: Pretrained, reply: Any, ids_tk: Any, chances_tk: Any) -> tuple[TokenChoice, ...]:
    """Returns the tokens of one reply, without special ones, each with likely alternatives."""
    tokenizer = getattr(chat.processor, "tokenizer", chat.processor)
    special = set(tokenizer.all_special_ids)
    tokens: list[TokenChoice] = []
    for token, ids, chances in zip(
        reply.tolist(), ids_tk.tolist(), chances_tk.tolist(), strict=True
    ):
        if token in special:
            continue
        choices: dict[str, float] = {}
        for each, chance in zip(ids, chances, strict=True):
            text = tokenizer.decode([each])
            choices[text] = choices.get(text, 0.0) + chance
        tokens.append(TokenChoice(tokenizer.decode([token]), choices))
    return tuple(tokens)


def _tokenized(chat: Pretrained, question: Question, **padding: Any) -> Tokens:
    control = _control_tokens(chat.processor)
    options: dict[str, Any] = {
        "tokenize": True,
        "return_dict": True,
        "add_generation_prompt": True,
    }
    if not hasattr(chat.processor, "tokenizer"):
        # A tokenizer's template takes texts, not lists of parts.
        return chat.processor.apply_chat_template(
            [[{"role": "user", "content": _plain(question.text, control)}]],
            tokenizer_kwargs={"padding_side": "left"},
            return_tensors="pt",
            **padding,
            **options,
        )
    return chat.processor.apply_chat_template(
        [[{"role": "user", "content": _content(question, control)}]],
        processor_kwargs={"padding_side": "left", "return_tensors": "pt", **padding},
        **options,
    )


def _content(question: Question, control: Sequence[str]) -> list[dict[str, Any]]:
    pictures = [{"type": "image", "image": picture} for picture in question.pictures]
    return [*pictures, {"type": "text", "text": _plain(question.text, control)}]


def _control_tokens(processor: Any) -> list[str]:
    tokenizer = getattr(processor, "tokenizer", processor)
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    words = {*tokenizer.all_special_tokens, *added, getattr(processor, "image_token", None)}
    return sorted(str(token) for token in words if token and len(str(token)) > 1)


def _plain(text: str, control: Sequence[str]) -> str:
    """Returns a row's text with nothing that looks like a control token of the model.

    transformers' own `sanitize_control_tokens` fails for processors that count picture tokens.
    """
    for token in control:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
