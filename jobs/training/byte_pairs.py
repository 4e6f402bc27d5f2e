"""Byte-level BPE of one word, without a tokenizer library."""

from collections.abc import Mapping
from itertools import pairwise

WORD_END = "</w>"


def split_word(word: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Splits a word into the tokens that its letters merge to, the last one with `</w>`.

    Args:
        word: letters of the byte-level alphabet, at least one.
        ranks: rank of each mergeable pair; the lowest rank merges first.
    """
    pieces = [*word[:-1], word[-1] + WORD_END]
    while True:
        mergeable = [pair for pair in pairwise(pieces) if pair in ranks]
        if not mergeable:
            return pieces
        best = min(mergeable, key=ranks.__getitem__)
        pieces = _merged(pieces, best)


def _merged(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    i = 0
    while i < len(pieces):
        if tuple(pieces[i : i + 2]) == pair:
            merged.append(pieces[i] + pieces[i + 1])
            i += 2
        else:
            merged.append(pieces[i])
            i += 1
    return merged
