"""Words of a scene: captions, referring expressions of items, and the attributes that they name.

Captions have at most 26 words and commas, so that a text model of 29 tokens reads them whole.
"""

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

Position = str
POSITION_PHRASES: dict[Position, str] = {
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
# Words of instructions that captions do not have.
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
            *POSITION_PHRASES.values(),
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
    """Attribute of a scene that a detailed caption names.

    Attributes:
        item: index of the item; -1 for the whole picture.
        name: name of the attribute, such as "colour".
        value: word for it, such as "red".
    """

    item: int
    name: str
    value: str


def captions(scene: Scene) -> list[str]:
    """Returns captions of a scene, the most detailed first, each of at most 26 words."""
    item_lists = _item_lists(scene)
    ground = background_words(scene.background)
    full = [_styled(scene.style, f"{items} {ground}") for items in item_lists]
    loose = [_styled(scene.style, items) for items in (item_lists[-1], _colours_and_kinds(scene))]
    kept = [text for text in (*full, *loose) if count_words(text) <= MAX_WORDS]
    return list(dict.fromkeys(kept))


def phrase(scene: Scene, index: int) -> str:
    """Returns the shortest referring expression of an item, such as "red star".

    Args:
        scene: any scene.
        index: number of the thing, from the back; 0 for the subject of other scenes.
    """
    if scene.subject is not None:
        return _subject_noun(scene.subject)
    thing = scene.things[index]
    return f"{thing.colour} {thing.kind}"


def attributes(scene: Scene) -> tuple[Attribute, ...]:
    """Returns the attributes that a detailed caption names, item by item."""
    facts = [Attribute(-1, "background", _background_name(scene.background))]
    if scene.style != "flat":
        facts.append(Attribute(-1, "style", scene.style))
    for index, thing in enumerate(scene.things):
        facts.append(Attribute(index, "kind", thing.kind))
        facts.append(Attribute(index, "colour", thing.colour))
        if thing.texture != "plain":
            facts.append(Attribute(index, "texture", thing.texture))
    return (*facts, *(Attribute(0, name, value) for name, value in _subject_facts(scene.subject)))


def position_of(thing: Thing) -> Position:
    """Returns the one of nine positions in the picture that a thing is at."""
    column = "left" if thing.x_px < LOW_PX else "right" if thing.x_px > HIGH_PX else ""
    row = "top" if thing.y_px < LOW_PX else "bottom" if thing.y_px > HIGH_PX else ""
    return f"{row} {column}".strip() or "centre"


def background_words(background: Background) -> str:
    """Returns a background as captions say it: "on a striped mint background", "by the sea"."""
    if background.tint is None:
        return _LANDSCAPE_WORDS[background.kind]
    return f"on {with_article(f'{_background_name(background)} background')}"


def background_noun(background: Background) -> str:
    """Returns a background as instructions say it: "striped mint", "a starry night"."""
    if background.tint is None:
        return _LANDSCAPE_WORDS[background.kind].split(" ", 1)[1]
    return _background_name(background)


def style_noun(style: Style) -> str:
    """Returns a style as instructions say it: "a pencil sketch"; empty for flat."""
    return _STYLE_WORDS[style].removesuffix(" of")


def with_article(noun: str) -> str:
    """Returns a noun phrase with "a" or "an" in front."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def count_words(text: str) -> int:
    """Counts the words and punctuation marks of a text."""
    return len(text.replace(",", " ,").replace(".", " .").split())


def describe_thing(thing: Thing) -> str:
    """Returns texture, colour and kind of a thing: "striped red star"."""
    texture = "" if thing.texture == "plain" else f"{thing.texture} "
    return f"{texture}{thing.colour} {thing.kind}"


def _background_name(background: Background) -> str:
    if background.tint is None:
        return background.kind
    return background.tint if background.kind == "plain" else f"{background.kind} {background.tint}"


def _item_lists(scene: Scene) -> list[str]:
    """Returns the items of a scene in words, from detailed to short."""
    if scene.subject is not None:
        return _subject_lists(scene.subject)
    sized = [
        with_article(f"{size_of(thing.radius_px)} {describe_thing(thing)}")
        for thing in scene.things
    ]
    placed = [
        f"{text} {POSITION_PHRASES[position_of(thing)]}"
        for text, thing in zip(sized, scene.things, strict=True)
    ]
    plain = [with_article(describe_thing(thing)) for thing in scene.things]
    return [join(placed), join(sized), join(plain)]


def join(phrases: list[str]) -> str:
    """Joins noun phrases with commas and a last "and"; "nothing" where there are none."""
    if not phrases:
        return "nothing"
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _colours_and_kinds(scene: Scene) -> str:
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
