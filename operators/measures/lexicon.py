"""Words of edit instructions and captions, by what they say: colours, textures, poses and so on."""

import re


def _words(text: str) -> tuple[str, ...]:
    """Returns the words of a list."""
    return tuple(text.split())


_ARTICLES = frozenset(_words("a an the"))
DETERMINERS = _ARTICLES | frozenset(
    _words("this that these those both all of its my your his her their our")
)
PRONOUNS = frozenset(_words("it this that them they him he her she everything"))
PREPOSITIONS = frozenset(
    _words(
        "on onto to in into inside near beside behind under above over at for from by with of next"
        " around across against between along through beneath below upon off toward towards"
    )
)
BOUNDARIES = (
    _ARTICLES
    | PREPOSITIONS
    | frozenset(_words("and or , . ; is are was were wearing holding seen while who that which"))
)
"""Words at which a noun phrase ends, read backwards from its noun."""

COLOURS = frozenset(
    _words(
        "red orange yellow green teal blue purple pink brown white black grey gray cyan"
        " magenta violet indigo turquoise beige crimson scarlet maroon gold golden silver lime"
        " olive navy lavender"
        " ivory blond blonde ginger colourful colorful transparent"
    )
)
SHADES = frozenset(_words("dark light bright pale deep vivid neon pastel hot royal sky mint"))
TEXTURES = frozenset(
    _words(
        "plain striped stripy dotted checked checkered chequered spotted plaid tartan"
        " floral patterned wooden wood stone marble glass metal metallic plastic leather brick"
        " velvet denim knitted"
        " woven woolen furry fluffy feathery scaly rusty rusted shiny glossy matte rough smooth"
        " mosaic crystal steel bronze copper ceramic paper cardboard concrete"
    )
)
SIZES = {
    **dict.fromkeys(_words("bigger larger big large huge enormous giant taller"), "large"),
    "wider": "large",
    **dict.fromkeys(
        _words("smaller small tiny little shorter thinner narrower miniature"), "small"
    ),
    "medium": "medium",
}
"""Words of sizes, and the size that a caption says for each."""
EXPRESSIONS = {
    **{word: word for word in _words("happy sad surprised angry sleepy scared afraid calm")},
    **{word: word for word in _words("neutral serious bored disgusted shocked tired cheerful")},
    **dict.fromkeys(_words("smile smiles smiling"), "smiling"),
    **dict.fromkeys(_words("laugh laughs laughing"), "laughing"),
    **dict.fromkeys(_words("cry cries crying"), "crying"),
    **dict.fromkeys(_words("frown frowns frowning"), "frowning"),
}
"""Words of faces, and the adjective for each."""
POSES = {
    **dict.fromkeys(_words("stand stands standing"), "standing"),
    **dict.fromkeys(_words("sit sits sitting seated"), "sitting"),
    **dict.fromkeys(_words("run runs running"), "running"),
    **dict.fromkeys(_words("walk walks walking"), "walking"),
    **dict.fromkeys(_words("jump jumps jumping"), "jumping"),
    **dict.fromkeys(_words("wave waves waving"), "waving"),
    **dict.fromkeys(_words("cheer cheers cheering"), "cheering"),
    **dict.fromkeys(_words("dance dances dancing"), "dancing"),
    **dict.fromkeys(_words("lie lies lying"), "lying"),
    **dict.fromkeys(_words("kneel kneels kneeling"), "kneeling"),
    **dict.fromkeys(_words("sleep sleeps sleeping"), "sleeping"),
    **dict.fromkeys(_words("fly flies flying"), "flying"),
    **dict.fromkeys(_words("swim swims swimming"), "swimming"),
    **dict.fromkeys(_words("bow bows bowing"), "bowing"),
}
"""Words of poses, and the participle of each."""
LIGHTS = {"brighter": "bright", "lighter": "light", "darker": "dark", "paler": "pale"}
"""Words of lightness, and the adjective for each."""
MORE = frozenset(
    ("much", "more", "a", "bit", "little", "lot", "very", "slightly", "even", "really", "all")
)
"""Words that say how much, before what an adjective says."""
FACES = frozenset(_words("face man woman person boy girl child baby kid lady guy people"))
SCENERY = frozenset(
    _words(
        "background sky sea ocean water ground grass field meadow beach forest mountain mountains"
        " landscape horizon street road floor wall night city desert room"
    )
)
"""Nouns of a scene's background rather than of a thing in it."""
TIMES = {
    **{word: f"in {word}" for word in _words("winter summer spring autumn fall")},
    **{word: f"at {word}" for word in _words("night dawn dusk sunset sunrise midnight noon")},
    **dict.fromkeys(_words("snowy snowing snow"), "in the snow"),
    **dict.fromkeys(_words("rainy raining rain"), "in the rain"),
    **dict.fromkeys(_words("foggy misty fog mist"), "in the fog"),
    **dict.fromkeys(_words("sunny sunshine"), "in the sunshine"),
    **dict.fromkeys(_words("stormy storm"), "in a storm"),
    **dict.fromkeys(_words("daytime day daylight"), "by day"),
    "cloudy": "under a cloudy sky",
    "nighttime": "at night",
    "wintry": "in winter",
}
"""Words of seasons, weather and times of day, and what a caption says for each."""

STYLE = re.compile(
    r"\b(?:sketch|drawing|painting|watercolou?r|pixel art|pixelated|cartoon|anime|manga|comic"
    r"|illustration|photo|photograph|oil|acrylic|pastel drawing|charcoal|engraving|etching|mosaic"
    r"|collage|origami|claymation|render(?:ing)?|3d|black and white|monochrome|sepia|grayscale"
    r"|vintage|retro|cyberpunk|steampunk|impressionis[tm]\w*|cubis[tm]\w*|pop art|ukiyo-e|art deco"
    r"|low poly|style|moonlit view|film noir|abstract|surreal\w*|minimalis[tm]\w*|stained glass"
    r"|line art|van gogh|picasso|monet|ghibli|pixar|disney|lego)\b"
)
"""A word that makes a phrase name the style of a picture."""
WHOLE = re.compile(
    r"(?:(?:the|this|whole|entire|full)\s+)*(?:image|picture|photo|photograph|scene|painting)"
    r"|it|this|that|everything"
)
"""The picture as instructions name it."""
SIDES = frozenset(_words("left right top bottom centre center middle corner side edge"))
"""Nouns of places in the picture."""
PLACES = re.compile(
    r"(?:(?:to|in|at|on|into|towards?)\s+)?(?:the\s+)?(?:far\s+|very\s+)?"
    r"(?:(?:top|bottom|upper|lower|left|right|cent(?:re|er)|middle|up|down|corner|side|hand|of|the"
    r"|picture|image|front|back|foreground|background)[\s-]*)+"
)
"""A place in the picture, such as "in the top left"."""


def words_of(text: str) -> list[str]:
    """Returns the words and commas of a text.

    Example:
        >>> words_of("a red star, and a cat")
        ['a', 'red', 'star', ',', 'and', 'a', 'cat']
    """
    return re.findall(r"[^\s,;]+|[,;]", text)


def without_determiners(text: str) -> str:
    """Returns a noun phrase without the articles and pronouns at its start."""
    words = words_of(text)
    while words and words[0].lower() in DETERMINERS:
        words = words[1:]
    return joined(words).strip(" ,.")


def joined(words: list[str]) -> str:
    """Joins words to a text, commas without a space before them."""
    return re.sub(r" ([,;])", r"\1", " ".join(words))


def with_article(noun: str) -> str:
    """Returns a noun phrase with "a" or "an" in front; a plural stays bare."""
    head = words_of(noun)[-1]
    is_bare = head.endswith("s") and not head.endswith("ss")
    return noun if is_bare else f"an {noun}" if noun[0].lower() in "aeiou" else f"a {noun}"


def is_same_noun(one: str, other: str) -> bool:
    """Tells whether two nouns are equal but for their number."""
    return one.lower().removesuffix("s") == other.lower().removesuffix("s")


def head_of(phrase: str) -> str:
    """Returns the noun of a noun phrase: the last word before its first preposition."""
    core: list[str] = []
    for word in words_of(without_determiners(phrase)):
        if core and word.lower() in BOUNDARIES:
            break
        core.append(word)
    return core[-1].lower() if core else ""


def kind_of(words: str) -> str | None:
    """Returns the edit type that some new words mean by themselves; None where they are others.

    Example:
        >>> kind_of("dark red"), kind_of("a bit bigger"), kind_of("a cat")
        ('color', 'resize', None)
    """
    text = re.sub(r"\s+than\s+.*$", "", words.strip().lower())
    if STYLE.search(text):
        return "style"
    quality = re.sub(r"\s+(?:pattern|texture|expression|pose|colou?r|face)$", "", text)
    is_thing = quality == text and re.match(r"an?\s+(?!bit|little|lot)", text)
    if is_thing:
        return None
    text = re.sub(r"^an?\s+", "", quality)
    plain = [word for word in re.split(r"[\s,]+", text) if word not in MORE | {"and", "or"}]
    if not plain:
        return None
    for kind, known in _KINDS.items():
        if all(word in known for word in plain):
            return kind
    is_colour = plain[-1] in COLOURS and all(word in COLOURS | SHADES for word in plain)
    return "color" if is_colour else None


_KINDS = {
    "texture": TEXTURES | {"stripes", "dots", "spots", "polka", "polka-dot", "checks"},
    "resize": SIZES.keys(),
    "expression": EXPRESSIONS.keys(),
    "pose": POSES.keys(),
    "color": LIGHTS.keys(),
    "style": TIMES.keys(),
}
