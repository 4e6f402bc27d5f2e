"""Backgrounds: plain and patterned papers, and four landscapes in layers."""

from functools import lru_cache

from overpaint.jobs.papercut.palette import LANDSCAPE_RGB, TINT_RGB, Rgb, light, mix, second_tint
from overpaint.jobs.papercut.paper import HALF_PX, SHADOW_RGB, Piece, cut, piece
from overpaint.jobs.papercut.patterns import pattern
from overpaint.jobs.papercut.scene import SIZE_PX, Background
from PIL import Image, ImageChops

PATTERN_PERIOD_PX = 12


@lru_cache(maxsize=64)
def backdrop(background: Background) -> Image.Image:
    """Draws a background alone, RGB 64x64; cached, so copy the picture before painting on it."""
    if background.tint is None:
        image = _landscape(background.kind)
    else:
        image = _sheet(background, TINT_RGB[background.tint])
    return ImageChops.multiply(image, _shading())


def _sheet(background: Background, rgb: Rgb) -> Image.Image:
    image = Image.new("RGB", (SIZE_PX, SIZE_PX), rgb)
    if background.kind != "plain":
        corner = HALF_PX - SIZE_PX // 2
        box = (corner, corner, corner + SIZE_PX, corner + SIZE_PX)
        image.paste(second_tint(rgb), None, pattern(background.kind, PATTERN_PERIOD_PX).crop(box))
    return image


@lru_cache(maxsize=1)
def _shading() -> Image.Image:
    """Returns light from the upper left: white there, five percent darker at the lower right."""
    shading = Image.new("L", (SIZE_PX, SIZE_PX))
    shading.putdata(
        [255 - (x + y) * 12 // (2 * SIZE_PX) for y in range(SIZE_PX) for x in range(SIZE_PX)]
    )
    return Image.merge("RGB", (shading, shading, shading))


def _landscape(kind: str) -> Image.Image:
    colours = LANDSCAPE_RGB[kind]
    image = Image.new("RGB", (SIZE_PX, SIZE_PX), colours[0])
    for rgb, layer in _LAYERS[kind]:
        _paste_layer(image, layer, colours[rgb] if isinstance(rgb, int) else rgb)
    return image


def _paste_layer(image: Image.Image, layer: Piece, rgb: Rgb) -> None:
    cutout = cut((layer,), SIZE_PX // 2)
    corner = SIZE_PX // 2 - HALF_PX
    box = (corner, corner)
    image.paste(SHADOW_RGB, box, cutout.shadow.point([value // 2 for value in range(256)]))
    image.paste(rgb, box, cutout.silhouette)
    image.paste(light(rgb), box, cutout.sheets[0].rim)


# A layer's colour is an index into LANDSCAPE_RGB or a colour of its own; 100 units are 32 px.
_LAYERS: dict[str, tuple[tuple[int | Rgb, Piece], ...]] = {
    "sky": (
        (1, piece("", "M-120,40 Q-60,14 0,38 Q60,62 120,30 L120,130 -120,130Z")),
        (
            2,
            piece(
                "", "O -66,-62 22,16", "O -44,-70 20,18", "O -24,-60 18,13", "S 22 -78,-54 -20,-54"
            ),
        ),
        (2, piece("", "O 50,-20 20,15", "O 70,-28 20,18", "O 92,-18 18,14", "S 20 40,-12 100,-12")),
        (2, piece("", "O -70,62 20,14", "O -50,54 22,18", "O -28,64 16,12", "S 20 -82,70 -22,70")),
        (2, piece("", "O 52,78 16,12", "O 70,72 18,15", "S 18 44,84 84,84")),
    ),
    "meadow": (
        ((252, 226, 140), piece("", "O 68,-68 20,20")),
        ((190, 220, 150), piece("", "M-120,0 Q-50,-40 10,-6 Q60,20 120,-14 L120,130 -120,130Z")),
        (1, piece("", "M-120,30 Q-60,60 0,34 Q60,6 120,30 L120,130 -120,130Z")),
        (2, piece("", "M-120,64 Q-70,40 -10,66 Q50,90 120,60 L120,130 -120,130Z")),
    ),
    "sea": (
        ((250, 190, 130), piece("", "O -58,-58 22,22")),
        (
            (150, 204, 222),
            piece(
                "",
                "M-120,-6 Q-100,-16 -80,-6 Q-60,4 -40,-6 Q-20,-16 0,-6 Q20,4 40,-6"
                " Q60,-16 80,-6 Q100,4 120,-6 L120,130 -120,130Z",
            ),
        ),
        (
            1,
            piece(
                "",
                "M-120,28 Q-95,42 -70,28 Q-45,14 -20,28 Q5,42 30,28 Q55,14 80,28 Q105,42 130,28"
                " L130,130 -120,130Z",
            ),
        ),
        (
            2,
            piece(
                "",
                "M-120,66 Q-95,52 -70,66 Q-45,80 -20,66 Q5,52 30,66 Q55,80 80,66 Q105,52 130,66"
                " L130,130 -120,130Z",
            ),
        ),
    ),
    "night": (
        (
            2,
            piece(
                "",
                "O -78,-70 6,6",
                "O -30,-84 5,5",
                "O 24,-66 6,6",
                "O 78,-82 5,5",
                "O 88,-30 6,6",
                "O -90,-18 5,5",
                "O -52,-40 4,4",
                "O 54,-40 4,4",
                "O 0,-30 4,4",
                "O 30,-2 4,4",
                "O -30,4 4,4",
            ),
        ),
        (1, piece("", "M-120,46 Q-60,6 0,40 Q60,70 120,36 L120,130 -120,130Z")),
        (
            mix((48, 60, 116), (20, 24, 60), 60),
            piece("", "M-120,74 Q-60,90 0,74 Q60,56 120,80 L120,130 -120,130Z"),
        ),
    ),
}
