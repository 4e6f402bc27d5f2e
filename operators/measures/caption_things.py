"""Things that a caption names, with what it says of them."""

import re
from typing import NamedTuple

from overpaint.operators.measures import lexicon

_OPENERS = lexicon.DETERMINERS | {"two", "three", "four", "some", "several", "many"}
_NOUNS = frozenset(
    ("building", "ceiling", "painting", "ring", "wing", "king", "clothing", "string")
)
"""Nouns that look like participles."""
_STYLED = re.compile(r"^.*?\b(?:sketch|painting|drawing|photo|picture|art|view|image)\s+of\s+")
_PLACE = r"(?:in|at|on)\s+the\s+(?:(?:top|bottom|left|right|cent(?:re|er)|middle)\s*)+"


class Thing(NamedTuple):
    """Thing of a caption.

    Attributes:
        words: adjectives and noun, such as "striped red star".
        noun: noun.
        place: words for the place that the caption says, such as "in the top left"; None for none.
    """

    words: str
    noun: str
    place: str | None

    def adjective(self, known: frozenset[str]) -> str | None:
        """Returns the adjective that is one of some words; None where there is none."""
        return next((word for word in self.words.split()[:-1] if word in known), None)


def named_things(caption: str) -> list[Thing]:
    """Returns the things that a caption names after an article or a number, in order.

    Scenery and places in the picture are left out; a phrase ends before a participle, as
    in "a man riding".

    Example:
        >>> [thing.words for thing in named_things("a small red cat and a man riding a horse")]
        ['small red cat', 'man', 'horse']
    """
    text = _STYLED.sub("", " ".join(caption.lower().split()).rstrip(" ."))
    words = lexicon.words_of(text)
    found = [_phrase(words, place + 1) for place, word in enumerate(words) if word in _OPENERS]
    things = [
        Thing(phrase, phrase.split()[-1], _place(text, phrase))
        for phrase in found
        if phrase and phrase.split()[-1] not in lexicon.SCENERY | lexicon.SIDES
    ]
    return list({thing.words: thing for thing in things}.values())


def _phrase(words: list[str], start: int) -> str:
    """Returns the noun phrase that begins at a word."""
    end = start
    while end < len(words) and words[end] not in lexicon.BOUNDARIES | _OPENERS:
        end += 1
    while end - start > 1 and words[end - 1].endswith("ing") and words[end - 1] not in _NOUNS:
        end -= 1
    return " ".join(words[start:end])


def _place(text: str, phrase: str) -> str | None:
    match = re.search(rf"\b{re.escape(phrase)}\s+({_PLACE})", text)
    return match[1].strip() if match else None
