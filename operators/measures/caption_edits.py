"""Captions edited in words: a source's caption and a request give the edited picture's caption.

A thing is found in a caption by its noun and the words before it, its part is changed, and the rest
stays word for word, so that methods which compare both prompts see the edit and nothing else.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from overpaint.operators.measures import lexicon
from overpaint.operators.measures.instructions import Request

_STYLED = re.compile(
    r"(?:an?\s+)?(?:[\w-]+\s+){0,3}?(?:sketch|painting|drawing|photo(?:graph)?|picture|art|view"
    r"|render(?:ing)?|cartoon|illustration|image)\s+of\s+",
    re.IGNORECASE,
)
_PLACED = re.compile(
    r"(?:(?:in|at|on)\s+the\s+(?:top|bottom|upper|lower|left|right|cent(?:re|er)|middle)"
    r"(?:\s+(?:left|right|side|corner))*)"
)
_SEEN = re.compile(r"seen from the \w+|from the (?:front|side|back|left|right|top)")
_ITEM_ENDS = frozenset((",", "and", ";"))
_ORDER = {"resize": lexicon.SIZES, "texture": lexicon.TEXTURES, "color": lexicon.COLOURS}
"""Adjectives in the order in which English puts them."""
_GROUND = re.compile(
    r"^(?P<items>.+?)(?P<ground>,?\s+(?:on|in|by|at|under|against|before|near|over|with)\s+"
    r"(?:(?:an?|the)\s+)?"
    rf"(?:(?!(?:{'|'.join(sorted(lexicon.BOUNDARIES - {',', ';', '.'}))})\b)[\w-]+\s+){{0,3}}?"
    rf"(?:{'|'.join(sorted(lexicon.SCENERY - {'wall', 'floor'}, key=len, reverse=True))}))$",
    re.IGNORECASE,
)


class NounPhrase(NamedTuple):
    """Place of a noun phrase in the words of a caption.

    Attributes:
        start: index of its first word, the article where there is one.
        first: index of its first word that is no article.
        head: index of its noun.
    """

    start: int
    first: int
    head: int


def edited_caption(caption: str, request: Request) -> str | None:
    """Returns the caption of the edited picture; None where the caption does not name the thing.

    Args:
        caption: what the source shows.
        request: an edit whose type is known.

    Example:
        >>> edited_caption("a man with a dog", Request(edit_type="remove", thing="dog"))
        'a man'
    """
    edit = _EDITS.get(request.edit_type or "")
    return edit(" ".join(caption.split()), request) if edit else None


def find_thing(words: list[str], thing: str) -> NounPhrase | None:
    """Returns the noun phrase of a caption that a thing's words fit best; None where none has it.

    Args:
        words: words of the caption.
        thing: words for the thing, such as "red star on the left".
    """
    noun = lexicon.head_of(thing)
    wanted = {word.lower() for word in lexicon.words_of(thing)} - {noun}
    found = [
        _phrase_at(words, index)
        for index, word in enumerate(words)
        if noun and lexicon.is_same_noun(word, noun)
    ]

    def fit(phrase: NounPhrase) -> int:
        end = next(
            (i for i in range(phrase.head + 1, len(words)) if words[i] in _ITEM_ENDS), len(words)
        )
        return len(wanted & {word.lower() for word in words[phrase.start : end]})

    return max(found, key=fit, default=None)


def main_thing(caption: str) -> str | None:
    """Returns the first noun phrase of a caption without its article, such as "red star"."""
    words = lexicon.words_of(_STYLED.sub("", caption, count=1))
    end = next(
        (i for i, w in enumerate(words) if i and w.lower() in lexicon.BOUNDARIES), len(words)
    )
    return lexicon.without_determiners(lexicon.joined(words[:end])) or None


def named_thing(caption: str, thing: str) -> str | None:
    """Returns a thing as the caption names it, adjectives included; None where it does not."""
    words = lexicon.words_of(caption)
    phrase = find_thing(words, thing)
    return None if phrase is None else lexicon.joined(words[phrase.first : phrase.head + 1])


def inject(caption: str, target_words: str, noun: str | None = None) -> str:
    """Injects target words into a caption: they replace a noun phrase, or are appended.

    Args:
        caption: what the source shows.
        target_words: a noun or noun phrase, such as "circle".
        noun: the noun that is replaced; None takes that of the caption's first noun phrase.

    Example:
        >>> inject("a red star on grass", "circle")
        'a red circle on grass'
    """
    thing = noun or main_thing(caption)
    words = lexicon.words_of(caption)
    phrase = find_thing(words, thing) if thing else None
    if phrase is None:
        return f"{caption}, {target_words}" if caption else target_words
    new = lexicon.words_of(lexicon.without_determiners(target_words))
    first = phrase.head if len(new) == 1 else phrase.first
    return _with_articles([*words[:first], *new, *words[phrase.head + 1 :]])


def _phrase_at(words: list[str], head: int) -> NounPhrase:
    first = head
    while first > 0 and words[first - 1].lower() not in lexicon.BOUNDARIES | lexicon.DETERMINERS:
        first -= 1
    has_article = first > 0 and words[first - 1].lower() in lexicon.DETERMINERS
    return NounPhrase(first - has_article, first, head)


def _replace(caption: str, request: Request) -> str | None:
    words = lexicon.words_of(caption)
    phrase = find_thing(words, request.thing or "")
    if phrase is None or not request.new:
        return None
    new = lexicon.words_of(request.new)
    article = words[phrase.start : phrase.first]
    if new[0] in lexicon.DETERMINERS:
        article, new = new[:1], new[1:]
    elif new[-1].endswith("s") and not new[-1].endswith("ss"):
        article = []
    kept = [word for word in words[phrase.first : phrase.head] if word in lexicon.SIZES]
    kept = [] if any(word in lexicon.SIZES for word in new) else kept
    after = words[phrase.head + 1 :]
    return _with_articles([*words[: phrase.start], *article, *kept, *new, *after])


def _described(caption: str, request: Request) -> str | None:
    """Gives a noun phrase another adjective: in the place of its like, or where it belongs."""
    words = lexicon.words_of(caption)
    phrase = find_thing(words, request.thing or "")
    if phrase is None or not request.new:
        return None
    kind = request.edit_type or ""
    before = words[phrase.first : phrase.head]
    kept = [word for word in before if word.lower() not in _like(kind)]
    place = len(kept)
    if kind in _ORDER:
        earlier = list(_ORDER)[: list(_ORDER).index(kind)]
        place = 0
        while place < len(kept) and any(kept[place] in _ORDER[k] for k in earlier):
            place += 1
    elif kind in ("expression", "pose"):
        place = 0
    new = lexicon.words_of(adjective(kind, request.new))
    kept[place:place] = [] if new == ["plain"] else new
    return _with_articles([*words[: phrase.first], *kept, *words[phrase.head :]])


def adjective(kind: str, new: str) -> str:
    """Returns the words of a request as a caption puts them before a noun.

    Args:
        kind: edit type.
        new: what is new, such as "a bit bigger", "smile".

    Example:
        >>> adjective("resize", "much bigger"), adjective("expression", "smile")
        ('large', 'smiling')
    """
    text = re.sub(r"^(?:an?|the)\s+(?!bit|little|lot)", "", new)
    text = re.sub(r"\s+(?:pattern|texture|expression|pose|colou?r|face)$", "", text)
    forms = {"resize": lexicon.SIZES, "expression": lexicon.EXPRESSIONS, "pose": lexicon.POSES}
    known = {**forms.get(kind, {}), **(lexicon.LIGHTS if kind == "color" else {})}
    words = text.split()
    return known.get(words[-1], text) if words else text


def _like(kind: str) -> frozenset[str]:
    likes = {
        "resize": lexicon.SIZES.keys(),
        "texture": lexicon.TEXTURES,
        "color": lexicon.COLOURS | lexicon.SHADES,
        "expression": lexicon.EXPRESSIONS.keys(),
        "pose": lexicon.POSES.keys(),
    }
    return frozenset(likes[kind])


def _remove(caption: str, request: Request) -> str | None:
    items, ground = _split_ground(caption)
    words = lexicon.words_of(items)
    phrase = find_thing(words, request.thing or "")
    if phrase is None:
        return None
    parts = _parts(words)
    index = next(i for i, (start, end) in enumerate(parts) if start <= phrase.head < end)
    start, end = parts[index]
    if start < phrase.start:  # "a man with a dog": the item stays, without its companion
        cut = phrase.start
        while cut > start and words[cut - 1].lower() in lexicon.BOUNDARIES:
            cut -= 1
        return lexicon.joined([*words[:cut], *words[end:]]) + ground
    rest = [lexicon.joined(words[s:e]) for i, (s, e) in enumerate(parts) if i != index]
    if not rest:
        return re.sub(r"^,?\s*\w+\s+", "", ground) or None
    return _listed(rest) + ground


def _add(caption: str, request: Request) -> str | None:
    if not request.new:
        return None
    words = lexicon.words_of(caption)
    phrase = find_thing(words, request.thing) if request.thing else None
    new = request.new if _has_article(request.new) else lexicon.with_article(request.new)
    place = request.place or ""
    if phrase is not None and (not place or place.startswith("to ")):
        end = phrase.head + 1
        return lexicon.joined([*words[:end], "with", *lexicon.words_of(new), *words[end:]])
    items, ground = _split_ground(caption)
    parts = [
        lexicon.joined(lexicon.words_of(items)[s:e]) for s, e in _parts(lexicon.words_of(items))
    ]
    return _listed([*parts, f"{new} {place}".strip()]) + ground


def _background(caption: str, request: Request) -> str | None:
    if not request.new:
        return None
    if request.thing and lexicon.head_of(request.thing) != "background":
        replaced = _replace(caption, request)
        if replaced is not None:
            return replaced
    items, _ = _split_ground(caption)
    if request.place:
        return f"{items} {request.place}"
    new = request.new
    if _has_article(new) or lexicon.head_of(new) in lexicon.SCENERY - {"background"}:
        near = "by" if re.search(r"\b(?:sea|ocean)$", new) else "in"
        near = "on" if re.search(r"\b(?:meadow|beach|road|street|grass)$", new) else near
        return f"{items} {near} {new}"
    return f"{items} on {lexicon.with_article(f'{new} background')}"


def _style(caption: str, request: Request) -> str | None:
    if not request.new:
        return None
    bare = lexicon.without_determiners(request.new)
    for word in lexicon.words_of(bare):
        if word in lexicon.TIMES and not lexicon.STYLE.search(bare):
            return f"{caption} {lexicon.TIMES[word]}"
    plain = _STYLED.sub("", caption, count=1) if _STYLED.match(caption) else caption
    if bare in ("black and white", "monochrome", "sepia", "grayscale"):
        return f"a {bare} photo of {plain}"
    if bare.endswith("style") or not lexicon.STYLE.search(bare):
        return f"{plain} in {lexicon.with_article(bare)}"
    return f"{bare if bare.endswith(' art') else lexicon.with_article(bare)} of {plain}"


def _move(caption: str, request: Request) -> str | None:
    words = lexicon.words_of(caption)
    phrase = find_thing(words, request.thing or "")
    if phrase is None or not request.place:
        return None
    after = lexicon.joined(words[phrase.head + 1 :])
    place = re.sub(r"^(?:to|towards?)\s+(?=the\b)", "", request.place)
    if place.startswith("the "):
        near = (
            "in"
            if re.search(r"(?:top|bottom|upper|lower) \w|cent|middle|corner", place)
            else ("at" if re.search(r"top|bottom", place) else "on")
        )
        place = f"{near} {place}"
    rest = _PLACED.sub("", after, count=1).strip() if _PLACED.match(after) else after
    gap = "" if rest.startswith(",") or not rest else " "
    return f"{lexicon.joined(words[: phrase.head + 1])} {place}{gap}{rest}"


def _viewpoint(caption: str, request: Request) -> str | None:
    if not request.new:
        return None
    new = f"seen from the {lexicon.without_determiners(request.new)}"
    if _SEEN.search(caption):
        return _SEEN.sub(new, caption, count=1)
    items, ground = _split_ground(caption)
    return f"{items} {new}{ground}"


_EDITS: dict[str, Callable[[str, Request], str | None]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "background": _background,
    "style": _style,
    "move": _move,
    "viewpoint": _viewpoint,
    **dict.fromkeys(("expression", "color", "texture", "resize", "pose"), _described),
}


def _split_ground(caption: str) -> tuple[str, str]:
    """Splits a caption into its items and its last part, the scenery; that may be empty."""
    match = _GROUND.match(caption)
    return (match["items"], match["ground"]) if match else (caption, "")


def _parts(words: list[str]) -> list[tuple[int, int]]:
    """Returns start and end of each item of a list in words."""
    parts: list[tuple[int, int]] = []
    start = 0
    for index, word in enumerate([*words, ","]):
        if word in _ITEM_ENDS:
            if index > start:
                parts.append((start, index))
            start = index + 1
    return parts


def _listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _has_article(text: str) -> bool:
    return lexicon.words_of(text)[0] in lexicon.DETERMINERS | {"some", "two", "three", "more"}


def _with_articles(words: list[str]) -> str:
    """Joins words; "a" and "an" follow the sound of the next word."""
    fixed = list(words)
    for index, word in enumerate(words[:-1]):
        if word in ("a", "an"):
            fixed[index] = "an" if words[index + 1][0].lower() in "aeiou" else "a"
    return lexicon.joined(fixed)
