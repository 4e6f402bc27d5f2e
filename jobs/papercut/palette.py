"""Colours of Papercut, and the rule that tells which of them are distinguishable side by side."""

from functools import lru_cache

from overpaint.jobs.papercut.scene import Background, Colour, HairColour, SkinTone, Tint

Rgb = tuple[int, int, int]

INK: Rgb = (44, 42, 54)
CREAM: Rgb = (252, 246, 232)

COLOUR_RGB: dict[Colour, Rgb] = {
    "red": (220, 54, 50),
    "orange": (244, 144, 50),
    "yellow": (252, 216, 84),
    "green": (80, 158, 74),
    "teal": (50, 184, 174),
    "blue": (44, 88, 192),
    "purple": (140, 68, 162),
    "pink": (244, 142, 182),
    "brown": (122, 78, 50),
    "white": (252, 250, 244),
    "black": (40, 38, 48),
}
TINT_RGB: dict[Tint, Rgb] = {
    "mint": (200, 232, 214),
    "peach": (252, 218, 194),
    "lemon": (250, 240, 190),
    "lilac": (222, 210, 240),
    "rose": (250, 208, 216),
    "cream": (248, 240, 222),
    "ice": (206, 230, 244),
    "sand": (226, 208, 176),
    "navy": (38, 50, 96),
    "forest": (36, 82, 70),
}
SKIN_RGB: dict[SkinTone, Rgb] = {
    "fair": (250, 214, 186),
    "tan": (230, 178, 136),
    "bronze": (188, 128, 88),
    "deep": (132, 84, 60),
}
HAIR_RGB: dict[HairColour, Rgb] = {
    "black": (46, 40, 48),
    "brown": (104, 64, 42),
    "blond": (244, 206, 104),
    "ginger": (216, 104, 46),
}
LANDSCAPE_RGB: dict[str, tuple[Rgb, ...]] = {
    "sky": ((150, 204, 240), (176, 218, 244), (250, 251, 252)),
    "meadow": ((206, 232, 242), (168, 208, 124), (132, 188, 104)),
    "sea": ((250, 224, 196), (112, 182, 214), (72, 142, 190)),
    "night": ((34, 42, 88), (48, 60, 116), (250, 230, 160)),
}
# Two colours nearer than this are hard to tell apart at 64 px once shadows and a VAE soften them.
MIN_DISTANCE = 92


@lru_cache(maxsize=1024)
def mix(first: Rgb, second: Rgb, percent: int) -> Rgb:
    """Mixes `percent` of the second colour into the first, in integers: equal on every machine."""
    red, green, blue = (
        (a * (100 - percent) + b * percent + 50) // 100 for a, b in zip(first, second, strict=True)
    )
    return red, green, blue


def luma(rgb: Rgb) -> int:
    """Returns the brightness (BT.601 luma) of a colour, 0 to 255."""
    return (rgb[0] * 299 + rgb[1] * 587 + rgb[2] * 114) // 1000


def shade(rgb: Rgb) -> Rgb:
    """Returns a darker neighbour of a colour, for the parts of a thing in its own shade."""
    return mix(rgb, (30, 22, 52), 28)


def light(rgb: Rgb) -> Rgb:
    """Returns a paler neighbour of a colour."""
    return mix(rgb, CREAM, 50)


def second_tone(rgb: Rgb) -> Rgb:
    """Returns the second colour of a striped, dotted or checked thing."""
    if luma(rgb) > 190:
        return mix(rgb, (112, 82, 96), 58)
    return mix(rgb, CREAM, 76)


def papers(background: Background) -> tuple[Rgb, ...]:
    """Returns the colours of a background that a thing on it must stand out from."""
    if background.tint is None:
        return LANDSCAPE_RGB[background.kind][: 2 if background.kind == "night" else 3]
    tint = TINT_RGB[background.tint]
    return (tint,) if background.kind == "plain" else (tint, second_tint(tint))


def is_near(first: Rgb, second: Rgb) -> bool:
    """Tells whether two colours that touch would run together."""
    return sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) < 50 * 50


def second_tint(rgb: Rgb) -> Rgb:
    """Returns the second colour of a patterned background, which is close to the first."""
    if luma(rgb) < 128:
        return mix(rgb, (255, 255, 255), 13)
    red, green, blue = (band - (255 - band) * 45 // 100 - 11 for band in rgb)
    return red, green, blue


def stands_out(rgb: Rgb, background: Background) -> bool:
    """Tells whether a colour can be told apart from every colour of a background."""
    least = MIN_DISTANCE * MIN_DISTANCE
    return all(
        sum((a - b) ** 2 for a, b in zip(rgb, paper, strict=True)) >= least
        for paper in papers(background)
    )
