"""Recognition of the object and the background in a picture, by matching drawings.

No model is involved: the picture is compared with drawings of this world. First comes the backdrop
that most pixels agree with, then the region that differs from it, then the object whose drawing
there is nearest. `overpaint bench checkpoints` reports the accuracy on true drawings.
"""

from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from overpaint.jobs.papercut.draw import draw, item_mask
from overpaint.jobs.papercut.scene import (
    COLOURS,
    KINDS,
    LANDSCAPES,
    MAX_RADIUS_PX,
    MIN_RADIUS_PX,
    PATTERNED,
    TEXTURES,
    TINTS,
    Background,
    Colour,
    Kind,
    Scene,
    Texture,
    Thing,
)
from PIL import Image, ImageFilter
from scipy import ndimage

_FAR = 30.0
_NUM_PAPERS = 14
_NUM_KINDS = 10
_NUM_REFINED = 8
_BLUR_PX = 0.8


class Paper(NamedTuple):
    """Paper of an object.

    Attributes:
        colour: colour of the paper.
        texture: pattern of the paper.
    """

    colour: Colour
    texture: Texture


class SceneReading(NamedTuple):
    """Content of a picture.

    Attributes:
        background: background of the picture.
        thing: object in the picture; None where nothing stands out.
    """

    background: Background
    thing: Thing | None


def read_scene(image: NDArray[np.uint8]) -> SceneReading:
    """Reads background and object from a picture (RGB uint8 HWC, 64 px) of a flat scene."""
    background = read_background(image)
    blob = _largest_blob(_distance(image, _backdrops()[background]) > _FAR)
    if blob is None:
        return SceneReading(background, None)
    eroded = np.asarray(ndimage.binary_erosion(blob, iterations=2), np.bool_)
    inside = image[eroded | _core(blob)].astype(np.float64)
    papers = sorted(_papers(), key=lambda paper: _paper_error(inside, paper))[:_NUM_PAPERS]
    placed = _placed_kinds(blob)
    drawn = [_on_paper(thing, paper) for thing, paper in product(placed, papers)]
    soft = _soft(Image.fromarray(image))
    ranked = sorted(drawn, key=lambda thing: _drawing_error(soft, background, thing))
    near = [moved for thing in ranked[:_NUM_REFINED] for moved in _nearby(thing)]
    return SceneReading(
        background, min(near, key=lambda thing: _drawing_error(soft, background, thing))
    )


def read_background(
    image: NDArray[np.uint8], region: NDArray[np.bool_] | None = None
) -> Background:
    """Reads the background with the least error on the half of the pixels that fit it best.

    Args:
        image: RGB uint8 HWC, 64 px.
        region: bool HW, True where the picture is looked at; None looks at all of it.
    """
    seen: Any = ... if region is None else region
    pixels = image.astype(np.float64)[seen]

    def error(backdrop: NDArray[np.float64]) -> float:
        squares = np.sort(((pixels - backdrop[seen]) ** 2).sum(-1), axis=None)
        return float(squares[: squares.size // 2].mean() + np.minimum(squares, 900).mean())

    backdrops = _backdrops()
    return min(backdrops, key=lambda background: error(backdrops[background]))


def correct_attributes(scene: Scene, reading: SceneReading) -> dict[str, bool]:
    """Tells for each attribute that a detailed caption names whether a reading is right."""
    true, read = scene.things[0], reading.thing
    return {
        "background": scene.background == reading.background,
        "kind": read is not None and read.kind == true.kind,
        "colour": read is not None and read.colour == true.colour,
        "texture": read is not None and read.texture == true.texture,
    }


@lru_cache(maxsize=1)
def _backdrops() -> dict[Background, NDArray[np.float64]]:
    plain = [Background(kind=kind, tint=tint) for kind in ("plain", *PATTERNED) for tint in TINTS]
    landscapes = [Background(kind=kind) for kind in LANDSCAPES]
    return {
        background: np.asarray(draw(Scene(background=background)), np.float64)
        for background in (*plain, *landscapes)
    }


def _distance(image: NDArray[np.uint8], backdrop: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(((image - backdrop) ** 2).sum(-1))


def _largest_blob(differs: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    # A pattern's second tone may be close to the background's and cut the object into strips.
    closed = ndimage.binary_closing(np.pad(differs, 4), np.ones((3, 3)), iterations=2)[4:-4, 4:-4]
    labelled: Any = ndimage.label(closed, structure=np.ones((3, 3)))
    labels, num_blobs = labelled
    if num_blobs == 0:
        return None
    sizes = ndimage.sum_labels(closed, labels, range(1, num_blobs + 1))
    if max(sizes) < 40:
        return None
    blob = labels == 1 + int(np.argmax(sizes))
    return np.asarray(ndimage.binary_fill_holes(blob), np.bool_)


def _core(blob: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns the pixel of a blob that is farthest from its edge, for blobs too thin to erode."""
    depth = np.asarray(ndimage.distance_transform_edt(blob))
    return depth == depth.max()


@lru_cache(maxsize=1)
def _papers() -> dict[Paper, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Returns mean and standard deviation of the colours of each paper, from a drawn square."""
    papers: dict[Paper, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for colour, texture in product(COLOURS, TEXTURES):
        square = _on_paper(_thing("square", 32, 32, 18), Paper(colour, texture))
        image = draw(Scene(background=Background(kind="plain", tint="mint"), things=(square,)))
        inside = np.asarray(image, np.float64)[20:44, 20:44].reshape(-1, 3)
        papers[Paper(colour, texture)] = inside.mean(0), inside.std(0)
    return papers


def _paper_error(inside: NDArray[np.float64], paper: Paper) -> float:
    mean, deviation = _papers()[paper]
    wrong_mean = np.abs(np.median(inside, 0) - mean).sum() + np.abs(inside.mean(0) - mean).sum()
    return float(wrong_mean + np.abs(inside.std(0) - deviation).sum())


def _placed_kinds(blob: NDArray[np.bool_]) -> list[Thing]:
    """Returns the kinds with the best-fitting silhouettes, each at its best position and size."""
    rows, columns = np.flatnonzero(blob.any(1)), np.flatnonzero(blob.any(0))
    x, y = int(columns[0] + columns[-1]) // 2, int(rows[0] + rows[-1]) // 2
    extent = int(max(rows[-1] - rows[0], columns[-1] - columns[0])) // 2
    extent = min(max(extent, MIN_RADIUS_PX), MAX_RADIUS_PX)
    radii = range(max(MIN_RADIUS_PX - 1, extent - 2), min(MAX_RADIUS_PX + 1, extent + 4) + 1)
    placed: list[Thing] = []
    for kind in KINDS:
        rough = [_thing(kind, x, y + dy, r) for dy, r in product((-4, -2, 0, 2, 4), radii)]
        best = min(rough, key=lambda thing: _silhouette_error(thing, blob))
        shifts = product((-2, -1, 0, 1, 2), (-1, 0, 1))
        fine = [_thing(kind, best.x_px + dx, best.y_px + dy, best.radius_px) for dx, dy in shifts]
        placed.append(min(fine, key=lambda thing: _silhouette_error(thing, blob)))
    return sorted(placed, key=lambda thing: _silhouette_error(thing, blob))[:_NUM_KINDS]


def _nearby(thing: Thing) -> list[Thing]:
    steps = product((-1, 0, 1), repeat=3)
    return [
        replace(thing, x_px=thing.x_px + dx, y_px=thing.y_px + dy, radius_px=thing.radius_px + dr)
        for dx, dy, dr in steps
    ]


def _on_paper(thing: Thing, paper: Paper) -> Thing:
    return replace(thing, colour=paper.colour, texture=paper.texture)


def _thing(kind: Kind, x: int, y: int, radius: int, colour: Colour = "red") -> Thing:
    texture: Texture = "plain"
    return Thing(kind=kind, colour=colour, texture=texture, x_px=x, y_px=y, radius_px=radius)


def _silhouette_error(thing: Thing, blob: NDArray[np.bool_]) -> float:
    mask = _mask(thing.kind, thing.x_px, thing.y_px, thing.radius_px)
    return float((mask ^ blob).sum() / max(1, (mask | blob).sum()))


@lru_cache(maxsize=50_000)
def _mask(kind: Kind, x: int, y: int, radius: int) -> NDArray[np.bool_]:
    scene = Scene(
        background=Background(kind="plain", tint="mint"), things=(_thing(kind, x, y, radius),)
    )
    return item_mask(scene, 0) > 0


def _drawing_error(soft: NDArray[np.float64], background: Background, thing: Thing) -> float:
    drawn = _soft(draw(Scene(background=background, things=(thing,))))
    return float(((soft - drawn) ** 2).mean())


def _soft(image: Image.Image) -> NDArray[np.float64]:
    """Blurs a picture slightly: generated pictures are softer than drawings."""
    return np.asarray(image.filter(ImageFilter.GaussianBlur(_BLUR_PX)), np.float64)
