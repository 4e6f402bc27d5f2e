"""Paper cutting: outlines become soft-edged masks, masks become sheets with a lit rim and a shadow.

An outline is a short string in units of a hundredth of the radius, x to the right and y down:

    "M0,-90 L80,60 C.. Q.. Z"    a path of straight lines, cubic and quadratic curves
    "O cx,cy rx,ry"              an oval
    "S width x,y x,y ..."        a stroke with round ends through points

A leading "-" cuts a hole into what came before. Curves are flattened with additions and
multiplications only and rounded to the supersampled grid, so every machine cuts the same shape.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from overpaint.jobs.papercut.palette import Rgb
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SUPERSAMPLE = 4
FRAME_PX = 88
HALF_PX = FRAME_PX // 2
RIM_STRENGTH = 96
SHADOW_STRENGTH = 92
SHADOW_RGB: Rgb = (40, 30, 62)
# Distance of the control points that makes four cubic curves a circle.
KAPPA = 0.5523
CURVE_STEPS = 10

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Outlines that are cut from one paper.

    Attributes:
        paint: name of the colour; each scene sets the colour of each name.
        outlines: outlines in the notation of this module, joined in order.
    """

    paint: str
    outlines: tuple[str, ...]


class Stamp(NamedTuple):
    """Alpha without its empty margin, which would take most of the time of a paste.

    Attributes:
        alpha: alpha, L.
        box: its position in the frame: left, top, right, bottom.
    """

    alpha: Image.Image
    box: tuple[int, int, int, int]

    def paste(self, image: Image.Image, rgb: Rgb, corner: tuple[int, int]) -> None:
        """Pastes a colour through the alpha into an image whose frame begins at `corner`."""
        image.paste(rgb, (corner[0] + self.box[0], corner[1] + self.box[1]), self.alpha)

    def times(self, mask: Image.Image) -> "Stamp":
        """Returns the stamp multiplied with a mask of the frame, L 88x88."""
        return Stamp(ImageChops.multiply(self.alpha, mask.crop(self.box)), self.box)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Piece after cutting.

    Attributes:
        paint: name of the colour.
        mask: alpha of the piece, L 88x88.
        rim: alpha of its lit upper left rim, L 88x88.
        stamp: `mask` to paste with.
        rim_stamp: `rim` to paste with.
    """

    paint: str
    mask: Image.Image
    rim: Image.Image
    stamp: Stamp
    rim_stamp: Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutout:
    """Sheets glued together.

    Attributes:
        sheets: sheets from back to front.
        silhouette: alpha of all sheets together, L 88x88.
        shadow: alpha of the shadow they throw, L 88x88.
        shadow_stamp: `shadow` to paste with.
    """

    sheets: tuple[Sheet, ...]
    silhouette: Image.Image
    shadow: Image.Image
    shadow_stamp: Stamp


def piece(paint: str, *outlines: str) -> Piece:
    """Returns a piece with these outlines."""
    return Piece(paint=paint, outlines=outlines)


def cut(pieces: Sequence[Piece], radius_px: int, *, is_lifted: bool = True) -> Cutout:
    """Cuts pieces so that 100 units are `radius_px`, centred in the frame.

    Args:
        pieces: pieces from back to front.
        radius_px: length of 100 units.
        is_lifted: whether the cutout throws a shadow.
    """
    sheets: list[Sheet] = []
    silhouette = Image.new("L", (FRAME_PX, FRAME_PX))
    for each in pieces:
        mask, rim = _cut_piece(each, radius_px)
        silhouette = ImageChops.lighter(silhouette, mask)
        sheet = Sheet(
            paint=each.paint, mask=mask, rim=rim, stamp=stamp_of(mask), rim_stamp=stamp_of(rim)
        )
        sheets.append(sheet)
    shadow = shadow_of(silhouette) if is_lifted else Image.new("L", silhouette.size)
    return Cutout(
        sheets=tuple(sheets),
        silhouette=silhouette,
        shadow=shadow,
        shadow_stamp=stamp_of(shadow),
    )


def stamp_of(mask: Image.Image) -> Stamp:
    """Returns a mask without its empty margin; one pixel of an empty mask."""
    box = mask.getbbox() or (0, 0, 1, 1)
    return Stamp(mask.crop(box), box)


def shadow_of(mask: Image.Image) -> Image.Image:
    """Returns the soft short shadow that a mask throws to the lower right."""
    shifted = Image.new("L", mask.size)
    shifted.paste(mask, (1, 2))
    blurred = shifted.filter(ImageFilter.BoxBlur(1)).filter(ImageFilter.BoxBlur(1))
    return blurred.point([value * SHADOW_STRENGTH // 255 for value in range(256)])


def _cut_piece(each: Piece, radius_px: int) -> tuple[Image.Image, Image.Image]:
    large = FRAME_PX * SUPERSAMPLE
    canvas = Image.new("L", (large, large))
    pen = ImageDraw.Draw(canvas)
    for outline in each.outlines:
        fill = 0 if outline.startswith("-") else 255
        for polygon in flatten(outline.lstrip("-")):
            pen.polygon([_to_grid(point, radius_px) for point in polygon], fill=fill)
    mask = canvas.reduce(SUPERSAMPLE)
    shifted = Image.new("L", canvas.size)
    shifted.paste(canvas, (3, 3))
    rim = ImageChops.subtract(canvas, shifted).reduce(SUPERSAMPLE)
    return mask, rim.point([value * RIM_STRENGTH // 255 for value in range(256)])


def _to_grid(point: Point, radius_px: int) -> tuple[int, int]:
    scale = radius_px * SUPERSAMPLE / 100
    middle = HALF_PX * SUPERSAMPLE
    return (
        middle + math.floor(point[0] * scale + 0.5),
        middle + math.floor(point[1] * scale + 0.5),
    )


def flatten(outline: str) -> list[list[Point]]:
    """Returns the polygons of an outline, in its own units.

    Raises:
        ValueError: the outline starts with an unknown letter.
    """
    words = outline.replace("M", "M ").replace("L", " L ").replace("Z", "")
    words = words.replace("C", " C ").replace("Q", " Q ")
    letter, *rest = words.split()
    if letter == "O":
        centre, radii = (_point(word) for word in rest)
        return [_oval(centre, radii)]
    if letter == "S":
        return _stroke(float(rest[0]), [_point(word) for word in rest[1:]])
    if letter == "M":
        return [_path(rest)]
    raise ValueError(f"outline {outline!r} starts with {letter!r}; it must be M, O or S")


def _point(word: str) -> Point:
    x, y = word.split(",")
    return float(x), float(y)


def _path(words: Sequence[str]) -> list[Point]:
    points = [_point(words[0])]
    mode, pending = "L", list[Point]()
    for word in words[1:]:
        if word in ("L", "C", "Q"):
            mode = word
            continue
        pending.append(_point(word))
        if mode == "L":
            points.extend(pending)
        elif mode == "Q" and len(pending) == 2:
            control, end = pending
            points.extend(
                _curve(points[-1], _third(points[-1], control), _third(end, control), end)
            )
        elif mode == "C" and len(pending) == 3:
            points.extend(_curve(points[-1], *pending))
        else:
            continue
        pending = []
    return points


def _third(end: Point, control: Point) -> Point:
    return end[0] + (control[0] - end[0]) * 2 / 3, end[1] + (control[1] - end[1]) * 2 / 3


def _curve(a: Point, b: Point, c: Point, d: Point) -> list[Point]:
    points: list[Point] = []
    for step in range(1, CURVE_STEPS + 1):
        t = step / CURVE_STEPS
        u = 1 - t
        w = (u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t)
        x = w[0] * a[0] + w[1] * b[0] + w[2] * c[0] + w[3] * d[0]
        y = w[0] * a[1] + w[1] * b[1] + w[2] * c[1] + w[3] * d[1]
        points.append((x, y))
    return points


def _oval(centre: Point, radii: Point) -> list[Point]:
    (x, y), (rx, ry) = centre, radii
    kx, ky = rx * KAPPA, ry * KAPPA
    return [
        *_curve((x + rx, y), (x + rx, y + ky), (x + kx, y + ry), (x, y + ry)),
        *_curve((x, y + ry), (x - kx, y + ry), (x - rx, y + ky), (x - rx, y)),
        *_curve((x - rx, y), (x - rx, y - ky), (x - kx, y - ry), (x, y - ry)),
        *_curve((x, y - ry), (x + kx, y - ry), (x + rx, y - ky), (x + rx, y)),
    ]


def _stroke(width: float, points: Sequence[Point]) -> list[list[Point]]:
    half = width / 2
    polygons = [_oval(point, (half, half)) for point in points]
    for (ax, ay), (bx, by) in pairwise(points):
        # sqrt is correctly rounded everywhere, hypot is not.
        length = math.sqrt((bx - ax) * (bx - ax) + (by - ay) * (by - ay))
        nx, ny = (ay - by) / length * half, (bx - ax) / length * half
        polygons.append(
            [(ax + nx, ay + ny), (bx + nx, by + ny), (bx - nx, by - ny), (ax - nx, ay - ny)]
        )
    return polygons
