"""Names of colours: the eleven basic ones (Berlin and Kay, 1969), and the nearest for each pixel.

Each name has a few typical colours; a pixel has the name of the nearest in CIELAB.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from overpaint.operators.measures import lexicon
from overpaint.pipeline.images import Pixels

_TYPICAL: dict[str, tuple[str, ...]] = {
    "red": ("d02020", "ff0000", "8b0000", "dc3632"),
    "orange": ("ff8c00", "f49032", "e8731e"),
    "yellow": ("ffff00", "fcd854", "ffd700", "e6c619"),
    "green": ("008000", "509e4a", "32cd32", "00ff00", "1f5c2e", "32b8ae"),
    "blue": ("0000ff", "2c58c0", "1e90ff", "00008b", "87ceeb"),
    "purple": ("800080", "8c44a2", "9370db", "4b0082"),
    "pink": ("ffc0cb", "f48eb6", "ff69b4"),
    "brown": ("8b4513", "7a4e32", "a0682d", "5a3a22"),
    "white": ("ffffff", "f5f3ee"),
    "gray": ("808080", "a9a9a9", "5a5a5a"),
    "black": ("000000", "282630"),
}
"""Typical colours of each name, sRGB in hex."""
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "red": ("crimson", "scarlet", "maroon"),
    "yellow": ("gold", "golden", "lemon"),
    "green": ("lime", "olive", "teal", "turquoise"),
    "blue": ("navy", "cyan"),
    "purple": ("violet", "indigo", "lavender"),
    "pink": ("magenta",),
    "white": ("ivory",),
    "gray": ("grey", "silver"),
}
"""Other words that count as a name."""
NAMES = tuple(_TYPICAL)
"""The eleven names."""
_MOST_PIXELS = 65_536


def asked_color(words: str | None) -> str | None:
    """Returns the last of the eleven colours that some words name; None for none.

    Example:
        >>> asked_color("from red to dark navy")
        'blue'
    """
    names = {other: name for name, others in _SYNONYMS.items() for other in others}
    named = [names.get(word, word) for word in _words(words or "")]
    return next((name for name in reversed(named) if name in _TYPICAL), None)


def color_shares(pixels: Pixels) -> dict[str, float]:
    """Returns the share of the pixels that each name has, 0 to 1; empty for no pixels.

    Args:
        pixels: RGB uint8, N by 3.
    """
    if not len(pixels):
        return {}
    from skimage.color import rgb2lab

    names, typical = _table()
    sample = pixels[:: max(1, len(pixels) // _MOST_PIXELS)]
    lab: Any = rgb2lab(sample[None])[0]
    nearest = np.square(lab[:, None] - typical[None]).sum(axis=2).argmin(axis=1)
    counts = np.bincount(np.asarray(names)[nearest], minlength=len(NAMES))
    return {name: float(count) / len(sample) for name, count in zip(NAMES, counts, strict=True)}


@lru_cache(maxsize=1)
def _table() -> tuple[tuple[int, ...], Any]:
    """Returns the typical colours in CIELAB, with the place of each one's name."""
    from skimage.color import rgb2lab

    pairs = [(place, code) for place, name in enumerate(NAMES) for code in _TYPICAL[name]]
    rgb = np.array([list(bytes.fromhex(code)) for _, code in pairs], np.uint8)
    lab: Any = rgb2lab(rgb[None])[0]
    return tuple(place for place, _ in pairs), lab


def _words(text: str) -> list[str]:
    bare = "".join(letter if letter.isalpha() else " " for letter in text.lower())
    return [word for word in bare.split() if word not in lexicon.DETERMINERS]
