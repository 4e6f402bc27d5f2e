"""What there is to say about a scene: captions, names of single things, the attributes behind them.

Captions have at most 26 words and commas, so that a text model with 29 places reads them whole.
"""

from __future__ import annotations

from typing import NamedTuple

from overpaint.jobs.papercut.scene import (
    COLOURS,
    EXPRESSIONS,
    HAIR_COLOURS,
    HAIR_STYLES,
    KINDS,
    POSES,
    SIZES,
    TEXTURES,
    TINTS,
    VIEWPOINTS,
    Background,
    Car,
    Face,
    Figure,
    House,
    Scene,
    Style,
    Subject,
    Thing,
    size_of,
)

MAX_WORDS = 26
LOW_PX, HIGH_PX = 27, 37

Place = str
PLACES: dict[Place, str] = {
    "top left": "in the top left",
    "top": "at the top",
    "top right": "in the top right",
    "left": "on the left",
    "centre": "in the centre",
    "right": "on the right",
    "bottom left": "in the bottom left",
    "bottom": "at the bottom",
    "bottom right": "in the bottom right",
}
_LANDSCAPE_WORDS = {
    "sky": "in a cloudy sky",
    "meadow": "on a green meadow",
    "sea": "by the sea",
    "night": "in a starry night",
}
_STYLE_WORDS: dict[Style, str] = {
    "flat": "",
    "sketch": "a pencil sketch of",
    "pixelated": "pixel art of",
    "watercolour": "a watercolour painting of",
    "night": "a dim moonlit view of",
}
# What instructions say beyond what captions say.
_INSTRUCTION_WORDS = (
    "add put place remove delete erase take away replace swap for turn into to make paint"
    " change colour color recolor it its picture image whole redraw as give texture pattern move"
    " shift much bigger smaller enlarge shrink expression pose show see view style plain"
)
_CAPTION_WORDS = (
    "nothing a an on in at the of with and by background cloudy sky green meadow sea starry night"
    " pencil sketch pixel art watercolour painting dim moonlit view face hair person shirt trousers"
    " house car roof seen from"
)
LEXICON: frozenset[str] = frozenset(
    " ".join(
        (
            _CAPTION_WORDS,
            _INSTRUCTION_WORDS,
            *PLACES.values(),
            *KINDS,
            *COLOURS,
            *TEXTURES,
            *TINTS,
            *SIZES,
            *EXPRESSIONS,
            *HAIR_COLOURS,
            *HAIR_STYLES,
            *POSES,
            *VIEWPOINTS,
        )
    ).split()
)


class Attribute(NamedTuple):
    """One thing that a caption of a scene should name; `value` is the word it uses."""

    item: int
    name: str
    value: str


def captions(scene: Scene) -> list[str]:
    """Phrasings of what a scene shows, the most detailed first, each at most 26 words.

    Args:
        scene: Any scene.
    """
    item_lists = _item_lists(scene)
    ground = background_words(scene.background)
    full = [_styled(scene.style, f"{items} {ground}") for items in item_lists]
    loose = [_styled(scene.style, items) for items in (item_lists[-1], _bare(scene))]
    kept = [text for text in (*full, *loose) if count_words(text) <= MAX_WORDS]
    return list(dict.fromkeys(kept))


def phrase(scene: Scene, index: int) -> str:
    """The shortest words that tell an item from the others of its scene, such as "red star".

    Args:
        scene: Any scene.
        index: Which thing, from the back; 0 for the face, person, house or car of other scenes.
    """
    if scene.subject is not None:
        return _subject_noun(scene.subject)
    thing = scene.things[index]
    return f"{thing.colour} {thing.kind}"


def attributes(scene: Scene) -> tuple[Attribute, ...]:
    """What a caption of a scene should name, item by item; item -1 is the whole picture."""
    found = [Attribute(-1, "background", _background_name(scene.background))]
    if scene.style != "flat":
        found.append(Attribute(-1, "style", scene.style))
    for index, thing in enumerate(scene.things):
        found.append(Attribute(index, "kind", thing.kind))
        found.append(Attribute(index, "colour", thing.colour))
        if thing.texture != "plain":
            found.append(Attribute(index, "texture", thing.texture))
    return (*found, *(Attribute(0, name, value) for name, value in _subject_facts(scene.subject)))


def place_of(thing: Thing) -> Place:
    """In which of nine places of the picture a thing is."""
    column = "left" if thing.x_px < LOW_PX else "right" if thing.x_px > HIGH_PX else ""
    row = "top" if thing.y_px < LOW_PX else "bottom" if thing.y_px > HIGH_PX else ""
    return f"{row} {column}".strip() or "centre"


def background_words(background: Background) -> str:
    """A background as captions say it: "on a striped mint background", "by the sea"."""
    if background.tint is None:
        return _LANDSCAPE_WORDS[background.kind]
    return f"on {with_article(f'{_background_name(background)} background')}"


def background_noun(background: Background) -> str:
    """A background as instructions say it: "striped mint", "a starry night"."""
    if background.tint is None:
        return _LANDSCAPE_WORDS[background.kind].split(" ", 1)[1]
    return _background_name(background)


def style_noun(style: Style) -> str:
    """A style as instructions say it: "a pencil sketch"; empty for flat."""
    return _STYLE_WORDS[style].removesuffix(" of")


def with_article(noun: str) -> str:
    """A noun phrase with a or an in front."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def count_words(text: str) -> int:
    """Words and punctuation marks of a text."""
    return len(text.replace(",", " ,").replace(".", " .").split())


def looks(thing: Thing) -> str:
    """Texture, colour and kind of a thing: "striped red star"."""
    texture = "" if thing.texture == "plain" else f"{thing.texture} "
    return f"{texture}{thing.colour} {thing.kind}"


def _background_name(background: Background) -> str:
    if background.tint is None:
        return background.kind
    return background.tint if background.kind == "plain" else f"{background.kind} {background.tint}"


def _item_lists(scene: Scene) -> list[str]:
    """The items of a scene in words, from detailed to short."""
    if scene.subject is not None:
        return _subject_lists(scene.subject)
    sized = [with_article(f"{size_of(thing.radius_px)} {looks(thing)}") for thing in scene.things]
    placed = [
        f"{text} {PLACES[place_of(thing)]}" for text, thing in zip(sized, scene.things, strict=True)
    ]
    plain = [with_article(looks(thing)) for thing in scene.things]
    return [join(placed), join(sized), join(plain)]


def join(parts: list[str]) -> str:
    """Parts with commas between them and an "and" before the last; no parts are "nothing"."""
    if not parts:
        return "nothing"
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _bare(scene: Scene) -> str:
    if scene.subject is not None:
        return with_article(_subject_noun(scene.subject))
    return join([with_article(f"{thing.colour} {thing.kind}") for thing in scene.things])


def _styled(style: Style, text: str) -> str:
    return f"{_STYLE_WORDS[style]} {text}".strip()


def _subject_noun(subject: Subject) -> str:
    match subject:
        case Face():
            return f"{subject.expression} face"
        case Figure():
            return "person"
        case House():
            return "house"
        case Car():
            return f"{subject.colour} car"


def _subject_lists(subject: Subject) -> list[str]:
    match subject:
        case Face():
            face = with_article(f"{subject.expression} face")
            hair = f"{subject.hair_colour} hair"
            return [f"{face} with {subject.hair_style} {hair}", f"{face} with {hair}"]
        case Figure():
            shirt = with_article(f"{subject.shirt} shirt")
            clothes = f"{shirt} and {subject.trousers} trousers"
            pose = subject.pose
            return [f"a {pose} person in {clothes}", f"a person in {clothes} {pose}"]
        case House():
            walls = with_article(f"{subject.wall} house")
            roof = with_article(f"{subject.roof} roof")
            seen = f"seen from the {subject.view}"
            return [f"{walls} with {roof} {seen}", f"the {subject.view} of {walls} with {roof}"]
        case Car():
            car = with_article(f"{subject.colour} car")
            return [f"{car} seen from the {subject.view}", f"the {subject.view} of {car}"]


def _subject_facts(subject: Subject | None) -> tuple[tuple[str, str], ...]:
    match subject:
        case None:
            return ()
        case Face():
            return (
                ("expression", subject.expression),
                ("hair style", subject.hair_style),
                ("hair colour", subject.hair_colour),
            )
        case Figure():
            return (
                ("pose", subject.pose),
                ("shirt", subject.shirt),
                ("trousers", subject.trousers),
            )
        case House():
            return (("view", subject.view), ("wall", subject.wall), ("roof", subject.roof))
        case Car():
            return (("view", subject.view), ("colour", subject.colour))
