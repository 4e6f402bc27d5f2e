"""Wordings of edits by type, and the words that fill them, for instructions that rules write.

Every wording is one that the rules of `instruct` read back to the same edit.
"""

import re
from dataclasses import dataclass
from typing import Any

from overpaint.operators.measures import lexicon
from overpaint.operators.measures.caption_things import Thing, named_things
from overpaint.operators.measures.draws import Draws
from overpaint.pipeline.edit_types import EditType

WORDINGS: dict[EditType, tuple[str, ...]] = {
    "add": ("add {new} {place}", "put {new} {place}", "place {new} {place}"),
    "remove": ("remove the {thing}", "erase the {thing}", "take away the {thing}"),
    "replace": (
        "replace the {thing} with {new}",
        "turn the {thing} into {new}",
        "swap the {thing} for {new}",
    ),
    "background": (
        "change the background to {new}",
        "make the background {new}",
        "replace the background with {new}",
    ),
    "expression": ("make the {thing} {new}", "make the {thing} look {new}"),
    "color": (
        "make the {thing} {new}",
        "change the color of the {thing} to {new}",
        "paint the {thing} {new}",
    ),
    "texture": ("make the {thing} {new}", "change the texture of the {thing} to {new}"),
    "style": ("turn the picture into {new}", "redraw the picture as {new}"),
    "move": ("move the {thing} {place}", "shift the {thing} {place}"),
    "resize": ("make the {thing} {new}", "make the {thing} much {new}"),
    "pose": ("show the {thing} {new}", "let the {thing} be {new}"),
    "viewpoint": ("show the {thing} from the {new}", "view the {thing} from the {new}"),
}
WORDS: dict[str, tuple[str, ...]] = {
    "things": ("hat", "bird", "tree", "flower", "balloon", "lamp", "chair", "dog", "cat", "ball"),
    "colors": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black"),
    "textures": ("striped", "dotted", "wooden", "metallic", "furry", "marble"),
    "backgrounds": ("a beach", "a forest", "a city at night", "a snowy mountain", "a meadow"),
    "styles": ("a pencil sketch", "a watercolor painting", "an oil painting", "pixel art"),
    "expressions": ("happy", "sad", "surprised", "angry", "smiling"),
    "poses": ("sitting", "standing", "jumping", "waving", "running"),
    "places": ("in the top left", "in the top right", "in the bottom left", "in the bottom right"),
    "views": ("front", "side", "back"),
}
"""Words of each list that a recipe can replace."""

_PEOPLE = lexicon.FACES
_LIKE: dict[str, frozenset[str]] = {
    "color": lexicon.COLOURS | lexicon.SHADES,
    "texture": lexicon.TEXTURES,
    "expression": frozenset(lexicon.EXPRESSIONS),
    "pose": frozenset(lexicon.POSES),
    "resize": frozenset(lexicon.SIZES),
}
_LISTS = {
    "color": "colors",
    "texture": "textures",
    "expression": "expressions",
    "pose": "poses",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """Words that fill the wordings of an edit, and of the edit that takes it back.

    Attributes:
        edit_type: type of the edit.
        parts: words by the names in braces.
        inverse_type: type of the inverse edit; None where the caption does not tell what was.
        inverse_parts: words of the inverse edit.
    """

    edit_type: EditType
    parts: dict[str, str]
    inverse_type: EditType | None = None
    inverse_parts: dict[str, str] | None = None

    def wordings(self) -> list[str]:
        """Returns the edit in all wordings."""
        return [wording.format_map(self.parts) for wording in WORDINGS[self.edit_type]]

    def inverse(self) -> str | None:
        """Returns the edit that takes this one back, in words; None where it cannot be told."""
        if self.inverse_type is None or self.inverse_parts is None:
            return None
        return WORDINGS[self.inverse_type][0].format_map(self.inverse_parts)


def fill(
    edit_type: EditType, caption: str, words: dict[str, tuple[str, ...]], draws: Draws
) -> Filling | None:
    """Draws an edit of a type that a caption allows; None where it allows none.

    Args:
        edit_type: type of the edit.
        caption: what the source shows.
        words: words by the names of the lists in `WORDS`.
        draws: choices.
    """
    things = named_things(caption)
    if edit_type in ("expression", "pose"):
        things = [thing for thing in things if thing.noun in _PEOPLE]
    if edit_type == "style":
        return Filling(edit_type=edit_type, parts={"new": draws.choose("style", words["styles"])})
    if edit_type == "background":
        return _background(caption, words, draws)
    if edit_type == "add":
        return _add(caption, words, draws)
    if not things:
        return None
    return _of_thing(edit_type, draws.choose("thing", things), words, draws)


def _of_thing(
    edit_type: EditType, thing: Thing, words: dict[str, tuple[str, ...]], draws: Draws
) -> Filling | None:
    if edit_type == "remove":
        back = {"new": lexicon.with_article(thing.words), "place": thing.place or ""}
        inverse = {"inverse_type": "add", "inverse_parts": back} if thing.place else {}
        return _filling(edit_type, {"thing": thing.words}, inverse)
    if edit_type == "replace":
        new = _other(draws, words["things"], thing.words)
        back = {"thing": new or "", "new": lexicon.with_article(thing.words)}
        parts = {"thing": thing.words, "new": lexicon.with_article(new)} if new else None
        return _filling(edit_type, parts, {"inverse_type": "replace", "inverse_parts": back})
    if edit_type == "move":
        found = _other(draws, words["places"], thing.place or "")
        place = found and _towards(found)
        back = {"thing": thing.words, "place": _towards(thing.place or "")}
        inverse = {"inverse_type": "move", "inverse_parts": back} if thing.place else {}
        return _filling(edit_type, place and {"thing": thing.words, "place": place}, inverse)
    if edit_type == "resize":
        new, old = draws.choose("size", (("bigger", "smaller"), ("smaller", "bigger")))
        back = {"thing": thing.words, "new": old}
        parts = {"thing": thing.words, "new": new}
        return _filling(edit_type, parts, {"inverse_type": "resize", "inverse_parts": back})
    if edit_type == "viewpoint":
        parts = {"thing": thing.words, "new": draws.choose("view", words["views"])}
        return _filling(edit_type, parts, {})
    return _described(edit_type, thing, words[_LISTS[edit_type]], draws)


def _towards(place: str) -> str:
    """Returns a place as the end of a move: "in the top left" becomes "to the top left"."""
    return re.sub(r"^(?:in|at|on) ", "to ", place)


def _described(
    edit_type: EditType, thing: Thing, values: tuple[str, ...], draws: Draws
) -> Filling | None:
    """Fills an edit that gives a thing another adjective."""
    old = thing.adjective(_LIKE[edit_type])
    new = _other(draws, values, old or "")
    if new is None:
        return None
    now = " ".join(new if word == old else word for word in thing.words.split())
    inverse = {"inverse_type": edit_type, "inverse_parts": {"thing": now, "new": old or ""}}
    return _filling(edit_type, {"thing": thing.words, "new": new}, inverse if old else {})


def _background(caption: str, words: dict[str, tuple[str, ...]], draws: Draws) -> Filling:
    new = draws.choose("background", words["backgrounds"])
    old = _ground(caption)
    inverse = {"inverse_type": "background", "inverse_parts": {"new": old or ""}} if old else {}
    found = _filling("background", {"new": new}, inverse)
    assert found is not None
    return found


def _ground(caption: str) -> str | None:
    """Returns the words for a caption's background, as in "on a striped mint background"."""
    before, _, _ = caption.lower().partition(" background")
    words = before.split()
    starts = [place for place, word in enumerate(words) if word in ("a", "an", "the")]
    if before == caption.lower() or not starts:
        return None
    return " ".join(words[starts[-1] + 1 :]) or None


def _add(caption: str, words: dict[str, tuple[str, ...]], draws: Draws) -> Filling | None:
    new = _other(draws, words["things"], caption)
    if new is None:
        return None
    parts = {
        "new": lexicon.with_article(new),
        "place": draws.choose("place", words["places"]),
    }
    return _filling("add", parts, {"inverse_type": "remove", "inverse_parts": {"thing": new}})


def _filling(
    edit_type: EditType, parts: dict[str, str] | str | None, inverse: dict[str, Any]
) -> Filling | None:
    if not isinstance(parts, dict):
        return None
    return Filling(edit_type=edit_type, parts=parts, **inverse)


def _other(draws: Draws, values: tuple[str, ...], taken: str) -> str | None:
    """Draws a value whose noun a text does not name yet; None where there is none."""
    names = set(taken.split())
    rest = [value for value in values if value != taken and value.split()[-1] not in names]
    return draws.choose("new", rest) if rest else None
