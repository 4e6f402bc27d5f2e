"""Edit instructions read by rules: the type of the edit, the thing that changes, the new words.

A small grammar of English requests: verbs, their patterns, and words that say what kind of change
an adjective is. What fits no rule is said to be unknown; nothing is guessed.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from overpaint.operators.measures import lexicon


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An instruction, taken apart.

    Attributes:
        edit_type: one of EDIT_TYPES; None where it cannot be told.
        thing: words for what changes, as they would be looked for in the source; None for the
            whole picture.
        new: words for what is new: a thing, a colour, a pose; None where nothing is.
        place: words for where a thing comes to be, preposition included.
        note: what could not be told, in a few words; None where everything was.
    """

    edit_type: str | None = None
    thing: str | None = None
    new: str | None = None
    place: str | None = None
    note: str | None = None


UNKNOWN = Request(note="no rule reads this instruction")
SEVERAL = Request(note="the instruction asks for more than one edit")

_VERBS = (
    r"add|insert|remove|delete|erase|replace|swap|make|change|turn|put|place|give|move|paint"
    r"|recolou?r|convert|transform|enlarge|shrink|show"
)
_SEVERAL = re.compile(rf"(?:,|;|\.|\band\b|\bthen\b)\s+(?:also\s+|then\s+|and\s+)?(?:{_VERBS})\s")
_POLITE = re.compile(
    r"\A(?:(?:please|kindly|now|ok(?:ay)?,?)\s+"
    r"|(?:can|could|would|will)\s+you\s+(?:please\s+)?"
    r"|i(?:'d|\s+would)?\s+(?:like|want)\s+(?:you\s+)?to\s+"
    r"|let'?s\s+)+"
)
_FEATURES = {
    **dict.fromkeys(("color", "colour", "colors", "colours"), "color"),
    **dict.fromkeys(("texture", "pattern", "material", "fabric"), "texture"),
    **dict.fromkeys(
        ("style", "weather", "season", "time of day", "lighting", "art style"), "style"
    ),
    **dict.fromkeys(("size", "shape"), "resize"),
    **dict.fromkeys(("pose", "posture", "action"), "pose"),
    **dict.fromkeys(("expression", "facial expression", "emotion", "mood"), "expression"),
    **dict.fromkeys(("view", "viewpoint", "perspective", "angle", "camera angle"), "viewpoint"),
    "background": "background",
}
_BEARERS = {"expression": "face", "pose": "person", "background": "background"}
_FEATURE = "|".join(sorted(_FEATURES, key=len, reverse=True))
_INTO = r"(?:into|to|as|with|for|by|in|look\s+like|become)"
_INSIDE = re.compile(
    r"(?:the\s+)?(?:side|cent(?:er|re)|middle|top|bottom|front|corner|back|left|right|edge)"
    r"(?:\s+side)?\s+of\s+(?P<thing>.+)"
)


def read_instruction(instruction: str) -> Request:
    """Reads an instruction by the first rule that fits.

    Args:
        instruction: an English request such as "make the dog a cat".

    Example:
        >>> read_instruction("make the dog a cat")
        Request(edit_type='replace', thing='dog', new='a cat', place=None, note=None)
    """
    text = " ".join(instruction.lower().split()).rstrip(" .!?")
    text = re.sub(r",?\s+please$", "", _POLITE.sub("", text, count=1))
    if _SEVERAL.search(text):
        return SEVERAL
    for pattern, rule in _RULES:
        match = pattern.fullmatch(text)
        request = rule(match) if match else None
        if request is not None:
            return _cleaned(request)
    return UNKNOWN


def _cleaned(request: Request) -> Request:
    """Returns a request whose thing is bare: no articles, pronouns or names of the picture."""
    thing = request.thing
    if thing is None:
        return request
    bare = lexicon.without_determiners(thing)
    if lexicon.WHOLE.fullmatch(thing.strip()) or lexicon.WHOLE.fullmatch(bare):
        return replace(request, thing=None)
    if not bare or thing.strip() in lexicon.PRONOUNS:
        note = request.note or f"{thing.strip()!r} names no thing"
        return replace(request, thing=None, note=note)
    return replace(request, thing=bare)


def _remove(match: re.Match[str]) -> Request | None:
    thing = match["thing"]
    return None if lexicon.WHOLE.fullmatch(thing) else Request(edit_type="remove", thing=thing)


def _feature(match: re.Match[str]) -> Request:
    edit_type = _FEATURES[match["feature"]]
    thing = match.groupdict().get("thing") or _BEARERS.get(edit_type)
    is_open = thing is None and edit_type in ("color", "texture", "resize")
    note = f"nothing says of what the {match['feature']} changes" if is_open else None
    new = (
        re.sub(r"^(?:the|be|look)\s+", "", match["new"])
        if edit_type == "viewpoint"
        else match["new"]
    )
    return Request(edit_type=edit_type, thing=thing, new=new, note=note)


def _changed(match: re.Match[str]) -> Request | None:
    return changed(match["thing"], match["new"])


def changed(thing: str, new: str) -> Request | None:
    """Returns the request that makes a thing something else.

    Args:
        thing: words for what changes.
        new: words for what it becomes: a thing, or what it is like.
    """
    kind, bare = lexicon.kind_of(new), lexicon.without_determiners(new)
    if lexicon.WHOLE.fullmatch(thing.strip()):
        return _whole_changed(thing, new, kind)
    if lexicon.head_of(thing) == "background":
        return Request(edit_type="background", thing="background", new=new)
    if bare.endswith((" one", " ones")):
        kind = lexicon.kind_of(bare.rsplit(" ", 1)[0])
        new = bare.rsplit(" ", 1)[0] if kind else new
    if kind is None and lexicon.is_same_noun(lexicon.head_of(thing), lexicon.head_of(new)):
        kind, new = _differing(thing, new)
    if kind is None and lexicon.head_of(thing) in lexicon.SCENERY:
        kind = "background"
    return Request(edit_type=kind or "replace", thing=thing, new=new)


def _differing(thing: str, new: str) -> tuple[str | None, str]:
    """Returns the kind of the words that a new noun phrase has beyond an old one, and the words."""
    old = lexicon.words_of(thing)
    before = lexicon.words_of(lexicon.without_determiners(new))[:-1]
    words = [word for word in before if word not in old]
    kind = lexicon.kind_of(" ".join(words)) if words else None
    return kind, " ".join(words) if kind else new


def _whole_changed(thing: str, new: str, kind: str | None) -> Request | None:
    words = lexicon.words_of(lexicon.without_determiners(new))
    if kind in ("style", "viewpoint") or any(word in lexicon.TIMES for word in words):
        return Request(edit_type="style", thing=None, new=new)
    if len(words) > 1 and words[0] in lexicon.POSES:
        return Request(edit_type="pose", thing=" ".join(words[1:]), new=words[0])
    if len(words) > 1 and words[0] in lexicon.EXPRESSIONS and words[-1] in lexicon.FACES:
        return Request(edit_type="expression", thing=" ".join(words[1:]), new=words[0])
    note = f"{thing.strip()!r} names no thing"
    if kind is not None:
        return Request(edit_type=kind, new=new, note=note)
    return Request(new=new, note=f"{note}, and no rule tells the type of {new!r}")


def _made(match: re.Match[str]) -> Request | None:
    """Splits "the red star a circle" into a thing and the words for what it becomes."""
    words = lexicon.words_of(match["rest"])
    for start in range(1, len(words)):
        thing, new = lexicon.joined(words[:start]), lexicon.joined(words[start:])
        if _is_noun_phrase(words[:start]) and lexicon.kind_of(new):
            return changed(thing, new)
    for start in range(len(words) - 1, 0, -1):
        is_article = words[start] in ("a", "an") and words[start - 1] not in lexicon.BOUNDARIES
        if is_article and _is_noun_phrase(words[:start]):
            return changed(lexicon.joined(words[:start]), lexicon.joined(words[start:]))
    if len(words) < 2 or not _is_noun_phrase(words[:-1]):
        return None
    if lexicon.head_of(lexicon.joined(words[:-1])) == "background":
        return Request(edit_type="background", thing="background", new=words[-1])
    thing, new = lexicon.joined(words[:-1]), words[-1]
    if lexicon.WHOLE.fullmatch(thing):
        return _whole_changed(thing, new, None)
    return Request(thing=thing, new=new, note=f"no rule tells the type of {new!r}")


def _is_noun_phrase(words: list[str]) -> bool:
    """Tells whether words may be a noun phrase with a noun at its end."""
    return words[-1] not in lexicon.BOUNDARIES | lexicon.MORE and words[
        -1
    ] not in lexicon.DETERMINERS - (lexicon.PRONOUNS)


def _added(match: re.Match[str]) -> Request:
    groups = match.groupdict()
    place, thing = groups.get("place"), groups.get("at")
    if place and lexicon.PLACES.fullmatch(place):
        thing = None
    elif thing and (inside := _INSIDE.fullmatch(thing)):
        thing = inside["thing"]
    return Request(edit_type="add", thing=thing, new=match["new"], place=place)


def _given(match: re.Match[str]) -> Request | None:
    kind = lexicon.kind_of(match["new"])
    thing, new = match["thing"], match["new"]
    if kind in ("texture", "expression", "color", "pose"):
        return Request(edit_type=kind, thing=thing, new=lexicon.without_determiners(new))
    return Request(edit_type="add", thing=thing, new=new, place=f"to {thing}")


def _moved(match: re.Match[str]) -> Request:
    return Request(edit_type="move", thing=match["thing"], place=match.groupdict().get("place"))


def _placed(match: re.Match[str]) -> Request | None:
    """Reads "put the cat on the left": a move, or another background where scenery is named."""
    place = match["place"]
    if lexicon.PLACES.fullmatch(place) is None and lexicon.head_of(match["at"]) in lexicon.SCENERY:
        return Request(edit_type="background", thing="background", new=match["at"], place=place)
    return _moved(match)


def _resized(match: re.Match[str]) -> Request:
    is_small = match["verb"].split()[-1] in ("shrink", "down", "reduce")
    return Request(
        edit_type="resize", thing=match["thing"], new="smaller" if is_small else "bigger"
    )


def _viewed(match: re.Match[str]) -> Request:
    return Request(edit_type="viewpoint", thing=match["thing"], new=match["new"])


def _posed(match: re.Match[str]) -> Request | None:
    words = lexicon.words_of(match["rest"])
    for start in range(1, len(words)):
        kind = lexicon.kind_of(words[start])
        if kind in ("pose", "expression") and _is_noun_phrase(words[:start]):
            return Request(edit_type=kind, thing=lexicon.joined(words[:start]), new=words[start])
    return None


def _painted(match: re.Match[str]) -> Request | None:
    words = lexicon.words_of(match["rest"])
    for start in range(1, len(words)):
        new = lexicon.joined(words[start:])
        kind = lexicon.kind_of(re.sub(r"^(?:in|to|as|with)\s+", "", new))
        if kind and _is_noun_phrase(words[:start]):
            new = re.sub(r"^(?:in|to|as|with)\s+", "", new)
            return changed(lexicon.joined(words[:start]), new)
    return None


def _looked(match: re.Match[str]) -> Request | None:
    """Reads "make the man look old": words without an article are no thing."""
    new = match["new"]
    if lexicon.kind_of(new) is None and lexicon.words_of(new)[0] not in lexicon.DETERMINERS:
        if lexicon.WHOLE.fullmatch(match["thing"]):
            return _whole_changed(match["thing"], new, None)
        return Request(thing=match["thing"], new=new, note=f"no rule tells the type of {new!r}")
    return changed(match["thing"], new)


def _styled(match: re.Match[str]) -> Request:
    return Request(edit_type="style", thing=match.groupdict().get("thing"), new=match["new"])


def _lit(match: re.Match[str]) -> Request:
    word = {"brighten": "brighter", "darken": "darker", "lighten": "lighter"}[match["verb"]]
    return Request(edit_type="color", thing=match["thing"], new=word)


_Rule = Callable[[re.Match[str]], Request | None]
_PREP = r"(?:on|onto|to|in|into|inside|near|next to|beside|behind|under|above|over|at|around|by)"
_IN_PLACE = rf"(?P<place>{_PREP}\s+(?P<at>.+))"
_NEW = r"(?:an?|some|one|two|three|more|another)\s"
_RULES: tuple[tuple[re.Pattern[str], _Rule], ...] = tuple(
    (re.compile(pattern), rule)
    for pattern, rule in (
        (
            r"(?:remove|delete|erase|take away|get rid of|take out|eliminate|cut out)\s+"
            r"(?P<thing>.+?)(?:\s+from\s+.+)?",
            _remove,
        ),
        (
            rf"(?:change|alter|set|replace|swap|switch|turn)\s+the\s+(?P<feature>{_FEATURE})"
            rf"(?:\s+of\s+(?P<thing>.+?))?\s+{_INTO}\s+(?P<new>.+)",
            _feature,
        ),
        (
            rf"(?:change|alter|set)\s+(?P<thing>.+?)(?:'s?)?\s+(?P<feature>{_FEATURE})"
            rf"\s+{_INTO}\s+(?P<new>.+)",
            _feature,
        ),
        (r"(?:make|turn)\s+the\s+(?P<feature>background)\s+(?P<new>.+)", _feature),
        (
            r"(?:replace|substitute|swap|exchange|switch)\s+(?P<thing>.+?)\s+(?:with|by|for|to)\s+"
            r"(?P<new>.+)",
            _changed,
        ),
        (
            r"(?:turn|rotate|move)\s+(?P<thing>.+?)\s+(?:to|so that you|so you)\s+(?:can\s+)?"
            r"(?:see|show|face)\s+(?:from\s+)?(?:the\s+|its\s+)?(?P<new>.+)",
            _viewed,
        ),
        (
            r"(?:show|see|view|display|render|draw)\s+(?P<thing>.+?)\s+from\s+(?:the\s+)?"
            r"(?P<new>.+)",
            _viewed,
        ),
        (r"(?P<verb>brighten|darken|lighten)(?:\s+up)?\s+(?P<thing>.+)", _lit),
        (
            r"(?:redraw|repaint|restyle|render|draw|paint)\s+(?P<thing>(?:the\s+|this\s+)?(?:whole\s+"
            r"|entire\s+)?(?:image|picture|photo|scene)|it)\s+(?:as|in|like|into)\s+(?P<new>.+)",
            _styled,
        ),
        (r"(?:apply|use)\s+(?P<new>(?:an?\s+|the\s+)?.+?)(?:\s+filter)?(?:\s+to\s+.+)?", _styled),
        (r"(?:in the style of|as)\s+(?P<new>.+)", _styled),
        (r"(?:paint|dye|tint|colou?r|recolou?r)\s+(?P<rest>.+)", _painted),
        (rf"(?:add|insert|draw|include)\s+(?P<new>.+?)\s+{_IN_PLACE}", _added),
        (r"(?:add|insert|draw|include)\s+(?P<new>.+)", _added),
        (rf"(?:put|place)\s+(?P<new>{_NEW}.+?)\s+{_IN_PLACE}", _added),
        (rf"(?:put|place)\s+(?P<thing>(?:the|this|that|my)\s+.+?)\s+{_IN_PLACE}", _placed),
        (rf"(?:put|place)\s+(?P<new>.+?)\s+{_IN_PLACE}", _added),
        (
            r"(?:make|let|have)\s+(?P<at>.+?)\s+wear(?:ing)?\s+(?P<new>.+)",
            _added,
        ),
        (
            r"give\s+(?P<thing>(?:the|this|that|my)\s+.+?|him|her|it)\s+(?P<new>(?:an?|some)\s+.+)",
            _given,
        ),
        (
            r"(?:move|shift|push|pull|drag|slide|bring)\s+(?P<thing>.+?)"
            r"(?:\s+(?P<place>(?:to|by|up|down|left|right|into|onto|towards?|in|on|at)\b.*))?",
            _moved,
        ),
        (
            r"(?P<verb>enlarge|shrink|grow|expand|magnify|reduce|scale up|scale down)\s+"
            r"(?P<thing>.+?)(?:\s+(?:to|by)\s+.+)?",
            _resized,
        ),
        (r"(?:show|let|have|get)\s+(?P<rest>.+)", _posed),
        (
            r"(?:turn|transform|convert|change|alter|make)\s+(?P<thing>.+?)\s+(?:from\s+.+?\s+)?"
            r"(?:into|to|look\s+like|to\s+look\s+like)\s+(?P<new>.+)",
            _changed,
        ),
        (
            r"(?:turn|transform|convert|change|alter|make)\s+(?P<thing>.+?)\s+"
            r"(?:look|become|appear|seem|be)\s+(?:more\s+)?(?P<new>.+)",
            _looked,
        ),
        (r"(?:make|turn)\s+(?P<rest>.+)", _made),
    )
)
