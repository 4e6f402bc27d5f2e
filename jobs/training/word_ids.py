"""Token ids of drawn texts by dictionary, without a tokenizer library.

Every word of papercut is one token, or has few pieces, so that a dictionary of words gives the same
ids as the tokenizers of the checkpoints, in a fraction of their time.
"""

import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from overpaint.jobs.training.byte_pairs import split_word

MAX_TOKENS = 32
# Longest prompt and answer of a judge: 128 image tokens, an instruction, three captions, scores.
MAX_JUDGE_TOKENS = 240
_NUM_IMAGE_TOKENS = 64
_NUM_IMAGES = 2
_WORD = re.compile(r"[a-z]+|,")
_JUDGE_WORD = re.compile(r"[a-z]+:?|[0-9]+|,|\?")

Ids = NDArray[np.int16]


class JudgeIds(NamedTuple):
    """Prompt and answer of a judge as token ids.

    Attributes:
        tokens: int16 of MAX_JUDGE_TOKENS, padded on the right.
        answer_start: position of the answer's first token.
        length: number of tokens before the padding; the last one ends the answer.
    """

    tokens: Ids
    answer_start: int
    length: int


class WordIds:
    """Token ids as the tokenizers of clip, caption and judge give them.

    Args:
        read: function from the name of one of these checkpoints to its tokenizer's JSON.
    """

    def __init__(self, read: Callable[[str], str]) -> None:
        self._read = read

    def clip(self, text: str) -> Ids:
        """Returns CLIP's token ids of a text: start, words, end, padding; int16 of 32."""
        return np.array(self._clip_row(text), np.int16)

    def clip_table(self, texts: Sequence[str], num_rows: int) -> Ids:
        """Returns CLIP's token ids of the first `num_rows` texts, repeated in turn, int16 NT.

        Raises:
            ValueError: there is no text, or one has a character that drawn texts do not have.
        """
        if not texts:
            raise ValueError("a table of token ids needs at least one text")
        rows = [self._clip_row(text) for text in texts[:num_rows]]
        return np.array([rows[row % len(rows)] for row in range(num_rows)], np.int16)

    def caption(self, text: str) -> Ids:
        """Returns the captioner's token ids: start, words, end, padding; int16 of 32."""
        special = self._caption.vocab
        words = self._caption.ids(text)[: MAX_TOKENS - 2]
        ids = [special["[DEC]"], *words, special["[SEP]"]]
        return np.array(ids + [special["[PAD]"]] * (MAX_TOKENS - len(ids)), np.int16)

    def judge(self, instruction: str, answer: str) -> JudgeIds:
        """Returns the token ids of the judge's prompt for two images, and of its answer.

        Raises:
            ValueError: both together are longer than MAX_JUDGE_TOKENS.
        """
        special = self._judge.vocab
        images = [special["<image>"]] * (_NUM_IMAGES * _NUM_IMAGE_TOKENS)
        prompt = [special["<s>"], *images, *self._judge.ids(f"{instruction} ?")]
        ids = [*prompt, *self._judge.ids(answer), special["</s>"]]
        if len(ids) > MAX_JUDGE_TOKENS:
            raise ValueError(
                f"the judge's prompt and answer have {len(ids)} tokens, more than "
                f"{MAX_JUDGE_TOKENS}: {instruction!r}, {answer!r}"
            )
        tokens = np.full(MAX_JUDGE_TOKENS, special["<pad>"], np.int16)
        tokens[: len(ids)] = ids
        return JudgeIds(tokens, len(prompt), len(ids))

    def _clip_row(self, text: str) -> list[int]:
        special = self._clip.vocab
        end = special["<|endoftext|>"]
        ids = [special["<|startoftext|>"], *self._clip.ids(text)[: MAX_TOKENS - 2]]
        return ids + [end] * (MAX_TOKENS - len(ids))

    @cached_property
    def _clip(self) -> "_Dictionary":
        return _Dictionary(self._read("clip"), _WORD)

    @cached_property
    def _caption(self) -> "_Dictionary":
        return _Dictionary(self._read("caption"), _WORD)

    @cached_property
    def _judge(self) -> "_Dictionary":
        return _Dictionary(self._read("judge"), _JUDGE_WORD)


class _Dictionary:
    """Words and their token ids, filled as words are met."""

    def __init__(self, tokenizer: str, word: re.Pattern[str]) -> None:
        model: Any = json.loads(tokenizer)["model"]
        self.vocab: dict[str, int] = model["vocab"]
        self._unknown: str | None = model["unk_token"] if model["type"] == "WordPiece" else None
        merges = model.get("merges", [])
        self._ranks = {(first, second): rank for rank, (first, second) in enumerate(merges)}
        self._word = word
        self._known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        """Returns the token ids of the words of a text."""
        ids: list[int] = []
        for word in text.replace(",", " , ").split():
            ids += self._known.get(word) or self._look_up(word)
        return ids

    def _look_up(self, word: str) -> list[int]:
        if not self._word.fullmatch(word):
            raise ValueError(f"{word!r} is no word of a drawn text, so that its tokens are unknown")
        self._known[word] = [self.vocab[piece] for piece in self._pieces(word)]
        return self._known[word]

    def _pieces(self, word: str) -> list[str]:
        if self._unknown is not None:
            return [word if word in self.vocab else self._unknown]
        return split_word(word, self._ranks)


def word_ids_of(tokenizer: Any) -> WordIds:
    """Returns the token ids of one tokenizer of transformers, that of clip, caption or judge."""
    return WordIds(lambda _: tokenizer.backend_tokenizer.to_str())


@lru_cache(maxsize=1)
def shipped_word_ids() -> WordIds:
    """Returns the token ids of the checkpoints that come along."""
    folder = Path(str(files("overpaint.operators.models") / "papercut"))
    return WordIds(lambda name: (folder / name / "tokenizer.json").read_text(encoding="utf-8"))
