"""Styles of a whole picture: pencil sketch, pixel art, watercolour, night.

Each is a pure function of the flat picture, in integers.
"""

from functools import lru_cache

from overpaint.jobs.papercut.palette import Rgb
from overpaint.jobs.papercut.scene import SIZE_PX, Style
from PIL import Image, ImageChops, ImageFilter

PAPER_RGB: Rgb = (250, 246, 236)
PENCIL_RGB: Rgb = (62, 58, 70)
PIXEL_PX = 4


def apply_style(image: Image.Image, style: Style) -> Image.Image:
    """Renders a flat picture in a style; `flat` returns the picture unchanged."""
    match style:
        case "flat":
            return image
        case "sketch":
            return _sketch(image)
        case "pixelated":
            return _pixelate(image)
        case "watercolour":
            return _wash(image)
        case "night":
            return _darken(image)


def outline_of(image: Image.Image) -> Image.Image:
    """Returns the edge strength of each pixel, L, 0-255."""
    grown = image.filter(ImageFilter.MaxFilter(3))
    red, green, blue = ImageChops.difference(grown, image).split()
    edge = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    return edge.point([min(255, max(0, value - 22) * 3) for value in range(256)])


def _sketch(image: Image.Image) -> Image.Image:
    paper = Image.new("RGB", image.size, PAPER_RGB)
    drawn = Image.blend(paper, image, 0.25)
    drawn.paste(PENCIL_RGB, None, outline_of(image))
    return drawn


def _pixelate(image: Image.Image) -> Image.Image:
    return image.reduce(PIXEL_PX).resize(image.size, Image.Resampling.NEAREST)


def _wash(image: Image.Image) -> Image.Image:
    soft = image.filter(ImageFilter.BoxBlur(1))
    pale = soft.point([value + (250 - value) * 52 // 100 for value in range(256)] * 3)
    rich = soft.point([value + (250 - value) * 14 // 100 for value in range(256)] * 3)
    washed = Image.composite(pale, rich, _pools())
    rim = outline_of(image).filter(ImageFilter.BoxBlur(1))
    dark = rim.point([value * 56 // 255 for value in range(256)])
    return ImageChops.subtract(washed, Image.merge("RGB", (dark, dark, dark)))


@lru_cache(maxsize=1)
def _pools() -> Image.Image:
    """Returns the thinness of the watercolour wash, L: a few fixed soft pools of water."""
    coarse = Image.new("L", (6, 6))
    coarse.putdata(
        [
            (row * 97 + column * 61 + row * column * 37) % 5 * 50 + 50
            for row in range(6)
            for column in range(6)
        ]
    )
    return coarse.resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC)


def _darken(image: Image.Image) -> Image.Image:
    grey = image.convert("L")
    bands = zip(image.split(), (46, 46, 62), (0, 0, 14), strict=True)
    return Image.merge(
        "RGB",
        [
            ImageChops.add(
                band.point([value * percent * 3 // 400 + lift for value in range(256)]),
                grey.point([value * percent // 400 for value in range(256)]),
            )
            for band, percent, lift in bands
        ],
    )
