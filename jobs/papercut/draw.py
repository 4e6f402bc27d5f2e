"""Rendering of a scene: the backdrop, then every cutout with its shadow, then the style."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from overpaint.jobs.papercut.backgrounds import backdrop
from overpaint.jobs.papercut.palette import (
    COLOUR_RGB,
    CREAM,
    HAIR_RGB,
    INK,
    SKIN_RGB,
    Rgb,
    light,
    mix,
    second_tone,
    shade,
)
from overpaint.jobs.papercut.paper import HALF_PX, SHADOW_RGB, Cutout, Sheet
from overpaint.jobs.papercut.patterns import pattern
from overpaint.jobs.papercut.people import face_cutout, figure_cutout
from overpaint.jobs.papercut.scene import (
    SIZE_PX,
    Car,
    Colour,
    Face,
    Figure,
    House,
    Scene,
    Subject,
    Texture,
    Thing,
)
from overpaint.jobs.papercut.shapes import thing_cutout
from overpaint.jobs.papercut.structures import car_cutout, house_cutout
from overpaint.jobs.papercut.styles import apply_style
from PIL import Image, ImageChops

TEXTURE_PERIOD_PX = 8
# Pictures of the last scenes: an edit is drawn several times while it is sampled and shown.
_NUM_KEPT = 16


class PlacedCutout(NamedTuple):
    """Cutout at its position in the picture.

    Attributes:
        cutout: sheets of the item, in a frame of their own.
        corner: position of the frame's upper left corner in the picture, x and y.
        paints: colour of each of the cutout's named paints.
        texture: pattern of the paint `main`.
    """

    cutout: Cutout
    corner: tuple[int, int]
    paints: dict[str, Rgb]
    texture: Texture


def draw(scene: Scene) -> Image.Image:
    """Draws a scene, RGB 64x64.

    Example:
        >>> from overpaint.jobs.papercut.sample import sample_scene
        >>> draw(sample_scene(0)).size
        (64, 64)
    """
    return apply_style(draw_flat(scene), scene.style)


@lru_cache(maxsize=_NUM_KEPT)
def draw_pixels(scene: Scene) -> NDArray[np.uint8]:
    """Draws a scene, RGB uint8 HWC, 64x64; read-only, because it is kept for the next call."""
    pixels = np.asarray(draw(scene))
    pixels.flags.writeable = False
    return pixels


def draw_flat(scene: Scene) -> Image.Image:
    """Draws a scene without its style, RGB 64x64."""
    # Callers get copies, because they may paint on them.
    return _draw_flat(scene).copy()


@lru_cache(maxsize=_NUM_KEPT)
def _draw_flat(scene: Scene) -> Image.Image:
    image = backdrop(scene.background).copy()
    for item in placed_cutouts(scene):
        item.cutout.shadow_stamp.paste(image, SHADOW_RGB, item.corner)
        for sheet in item.cutout.sheets:
            _paste_sheet(image, sheet, item)
    return image


def num_items(scene: Scene) -> int:
    """Returns the number of items of a scene: its things, or 1 for its subject."""
    return len(scene.things) if scene.subject is None else 1


def item_mask(scene: Scene, index: int) -> NDArray[np.uint8]:
    """Returns the visible shape of an item without its shadow, uint8 HW, 0 or 255.

    Args:
        scene: any scene.
        index: number of the thing, from the back; 0 for the subject of other scenes.
    """
    items = placed_cutouts(scene)
    own = np.asarray(_in_picture(items[index].cutout.silhouette, items[index].corner))
    visible = own >= 128
    for other in items[index + 1 :]:
        visible &= np.asarray(_in_picture(other.cutout.silhouette, other.corner)) < 128
    return np.where(visible, 255, 0).astype(np.uint8)


def footprint(scene: Scene, index: int) -> NDArray[np.uint8]:
    """Returns every pixel that an item touches, edge and shadow included, uint8 HW, 0 or 255."""
    item = placed_cutouts(scene)[index]
    touched = ImageChops.lighter(item.cutout.silhouette, item.cutout.shadow)
    return np.where(np.asarray(_in_picture(touched, item.corner)) > 0, 255, 0).astype(np.uint8)


def coverage(scene: Scene, index: int) -> NDArray[np.uint8]:
    """Returns the alpha of an item without its shadow, uint8 HW, 0-255."""
    item = placed_cutouts(scene)[index]
    return np.asarray(_in_picture(item.cutout.silhouette, item.corner)).astype(np.uint8)


def detail_silhouette(scene: Scene) -> Image.Image:
    """Returns the features of a face (no skin, no hair), L 64x64; empty in other scenes."""
    details = Image.new("L", (SIZE_PX, SIZE_PX))
    for item in placed_cutouts(scene) if isinstance(scene.subject, Face) else []:
        for sheet in item.cutout.sheets:
            if sheet.paint not in ("skin", "hair"):
                details = ImageChops.lighter(details, _in_picture(sheet.mask, item.corner))
    return details


def placed_cutouts(scene: Scene) -> list[PlacedCutout]:
    """Returns the items of a scene as cutouts at their positions, from back to front."""
    if scene.subject is None:
        return [_place_thing(thing) for thing in scene.things]
    return [_place_subject(scene.subject)]


def _in_picture(mask: Image.Image, corner: tuple[int, int]) -> Image.Image:
    picture = Image.new("L", (SIZE_PX, SIZE_PX))
    picture.paste(mask, corner)
    return picture


def _paste_sheet(image: Image.Image, sheet: Sheet, item: PlacedCutout) -> None:
    rgb = item.paints[sheet.paint]
    sheet.stamp.paste(image, rgb, item.corner)
    if sheet.paint == "main" and item.texture != "plain":
        other = sheet.stamp.times(pattern(item.texture, TEXTURE_PERIOD_PX))
        other.paste(image, second_tone(rgb), item.corner)
    sheet.rim_stamp.paste(image, mix(rgb, (255, 255, 255), 60), item.corner)


def _place_thing(thing: Thing) -> PlacedCutout:
    cutout, paints = thing_cutout(thing.kind, thing.radius_px), _thing_paints(thing.colour)
    corner = (thing.x_px - HALF_PX, thing.y_px - HALF_PX)
    return PlacedCutout(cutout, corner, paints, thing.texture)


@lru_cache(maxsize=16)
def _thing_paints(colour: Colour) -> dict[str, Rgb]:
    rgb = COLOUR_RGB[colour]
    return {
        "main": rgb,
        "shade": shade(rgb) if colour != "black" else light(light(INK)),
        "light": light(rgb) if colour != "white" else (222, 214, 220),
        "centre": COLOUR_RGB["brown"] if colour in ("yellow", "orange") else (252, 216, 84),
        "nose": COLOUR_RGB["red"] if colour == "pink" else (244, 142, 182),
        "leaf": (120, 178, 84),
        "wood": (122, 78, 50) if colour != "brown" else (88, 56, 40),
        "cream": CREAM if colour != "white" else (226, 206, 178),
        "ink": INK,
    }


def _place_subject(subject: Subject) -> PlacedCutout:
    corner = (subject.x_px - HALF_PX, subject.y_px - HALF_PX)
    match subject:
        case Face():
            cutout = face_cutout(subject.expression, subject.hair_style, subject.radius_px)
            paints = _face_paints(subject)
        case Figure():
            cutout = figure_cutout(subject.pose, subject.radius_px)
            paints = _figure_paints(subject)
        case House():
            cutout = house_cutout(subject.view, subject.radius_px)
            paints = _house_paints(subject)
        case Car():
            cutout = car_cutout(subject.view, subject.radius_px)
            paints = _car_paints(subject)
    return PlacedCutout(cutout, corner, paints, "plain")


def _face_paints(face: Face) -> dict[str, Rgb]:
    skin = SKIN_RGB[face.skin]
    return {
        "skin": skin,
        "hair": HAIR_RGB[face.hair_colour],
        "white": (254, 252, 248),
        "ink": INK,
        "mouth": (150, 36, 54),
        "blush": mix(skin, (240, 96, 110), 55),
        "flush": mix(skin, (226, 44, 44), 60),
        "tear": (88, 168, 236),
    }


def _figure_paints(figure: Figure) -> dict[str, Rgb]:
    shirt = COLOUR_RGB[figure.shirt]
    return {
        "shirt": shirt,
        "sleeve": shade(shirt) if figure.shirt != "black" else mix(INK, CREAM, 25),
        "trousers": COLOUR_RGB[figure.trousers],
        "skin": SKIN_RGB[figure.skin],
        "hair": HAIR_RGB[figure.hair_colour],
        "wood": (146, 98, 62),
        "ink": INK,
    }


def _house_paints(house: House) -> dict[str, Rgb]:
    return {
        "wall": COLOUR_RGB[house.wall],
        "roof": COLOUR_RGB[house.roof],
        "glass": (158, 212, 236),
        "door": (104, 66, 46) if house.wall != "brown" else (70, 44, 34),
        "cream": CREAM,
        "stone": (150, 138, 140),
        "leaf": (66, 132, 70) if house.wall != "green" else (44, 96, 56),
    }


def _car_paints(car: Car) -> dict[str, Rgb]:
    rgb = COLOUR_RGB[car.colour]
    return {
        "main": rgb,
        "shade": shade(rgb) if car.colour != "black" else (96, 94, 108),
        "glass": (176, 222, 242),
        "tyre": (52, 50, 60),
        "metal": (202, 204, 212),
        "lamp": (255, 240, 170),
        "tail": (196, 24, 40) if car.colour != "red" else (255, 150, 60),
        "cream": CREAM,
    }
