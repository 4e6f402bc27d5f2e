"""Draws of a row: choices that follow from its seed and a word, on every machine and version."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draws:
    """Choices by a seed.

    Args:
        seed: any integer.

    Example:
        >>> Draws(7).choose("colour", ["red", "green", "blue"]) in ("red", "green", "blue")
        True
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def number(self, word: str, below: int) -> int:
        """Returns a number from 0 to below `below`; equal words have equal numbers."""
        digest = hashlib.sha256(f"{self._seed} {word}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % below

    def choose(self, word: str, values: Sequence[T]) -> T:
        """Returns one of some values."""
        return values[self.number(word, len(values))]

    def shuffled(self, word: str, values: Sequence[T]) -> list[T]:
        """Returns the values in another order."""
        return [
            values[place]
            for place in sorted(
                range(len(values)), key=lambda place: self.number(f"{word} {place}", 2**63)
            )
        ]
