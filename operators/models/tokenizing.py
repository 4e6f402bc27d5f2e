"""Tokenizers: the lengths of texts, and one call at a time.

Padding and truncation are settings of the one object that all threads of an actor share. A call
that changes them while another thread encodes fails, or changes what that thread gets.
"""

import re
from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

_CALLS = ("__call__", "encode", "tokenize", "decode", "batch_decode")
"""Calls of a tokenizer that read or change the shared settings, or run beside those that do."""


class TextLength(NamedTuple):
    """Length of a text beside what a text encoder sees of it.

    Attributes:
        num_tokens: tokens of the whole text, with those that begin and end it.
        max_tokens: the most tokens that the text encoder sees.
    """

    num_tokens: int
    max_tokens: int

    @property
    def num_cut(self) -> int:
        """The number of tokens that the text encoder does not see."""
        return max(0, self.num_tokens - self.max_tokens)


def text_length(tokenizer: Any, text: str, max_tokens: int | None = None) -> TextLength:
    """Returns the length of a text in tokens.

    Args:
        tokenizer: tokenizer of a text encoder.
        text: text, of any length.
        max_tokens: the most tokens that the text encoder sees; None for the tokenizer's own.
    """
    tokens = tokenizer(
        with_vectors(tokenizer, text), padding=False, truncation=False, verbose=False
    )
    limit = tokenizer.model_max_length if max_tokens is None else max_tokens
    return TextLength(len(tokens["input_ids"]), int(limit))


def with_vectors(tokenizer: Any, text: str) -> str:
    """Returns a text in which words of textual inversions stand for all of their vectors.

    A word of several vectors is several tokens: `word`, `word_1`, `word_2`, as diffusers adds them.
    """
    added: dict[str, int] = tokenizer.get_added_vocab()
    for word in [name for name in added if f"{name}_1" in added]:
        number = 1
        while f"{word}_{number}" in added:
            number += 1
        whole = " ".join([word, *(f"{word}_{place}" for place in range(1, number))])
        text = re.sub(rf"{re.escape(word)}(?!_\d)", whole, text)
    return text


def one_call_at_a_time(tokenizer: T) -> T:
    """Makes the calls of a tokenizer wait for each other, whoever makes them; returns it.

    Its libraries call it too (processors, pipelines), so that a lock beside it is not enough.

    Args:
        tokenizer: tokenizer of transformers; changed in place.
    """
    shared: Any = tokenizer
    kind, lock = type(shared), RLock()
    calls = {name: _locked(lock, getattr(kind, name)) for name in _CALLS if hasattr(kind, name)}
    # Of the same name: transformers and diffusers write and compare names of classes.
    shared.__class__ = type(kind.__name__, (kind,), calls)
    return tokenizer


def _locked(lock: RLock, call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def locked(*args: Any, **options: Any) -> Any:
        with lock:
            return call(*args, **options)

    return locked
